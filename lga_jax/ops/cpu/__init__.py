"""Products, convolutions and pooling in the form that the platform runs fast: what networks are built from."""

from lga_jax.ops.cpu.conv import conv2d
from lga_jax.ops.cpu.matmul import matmul
from lga_jax.ops.cpu.pool import max_pool

__all__ = ["conv2d", "matmul", "max_pool"]
