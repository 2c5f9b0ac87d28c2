"""Matrix products, convolutions and pooling for the networks, in a form that is fast on the current platform."""

from lga_jax.ops.cpu.conv import conv2d
from lga_jax.ops.cpu.matmul import matmul
from lga_jax.ops.cpu.pool import max_pool

__all__ = ["conv2d", "matmul", "max_pool"]
