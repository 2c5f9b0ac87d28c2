"""Product of features and kernel, in a form that is fast on the current platform."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lga_jax.ops.cpu import products


@jax.custom_vjp
def matmul(x: Float[Array, "n c"], kernel: Float[Array, "c o"]) -> Float[Array, "n o"]:
    """x @ kernel, both of the same dtype: `products.matmul` on CPUs, jnp.matmul elsewhere."""
    return jax.lax.platform_dependent(x, kernel, cpu=products.matmul, default=jnp.matmul)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return matmul(x, kernel), (x, kernel)


def _backward(inputs: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    x, kernel = inputs
    kernel_gradient = jax.lax.platform_dependent(
        x, cotangent, cpu=products.matmul_kernel_gradient, default=_plain_kernel_gradient
    )
    return matmul(cotangent, kernel.T), kernel_gradient.astype(kernel.dtype)


def _plain_kernel_gradient(x: Float[Array, "n c"], cotangent: Float[Array, "n o"]) -> Float[Array, "c o"]:
    return (x.T @ cotangent).astype(jnp.float32)


matmul.defvjp(_forward, _backward)
