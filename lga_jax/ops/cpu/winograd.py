"""3x3 convolution of large feature maps on CPUs, with 16 instead of 36 products per 2x2 outputs.

F(2x2, 3x3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016): for each 4x4 tile d of the
input, the 2x2 outputs are A^T [(G k G^T) * (B^T d B)] A, where * is a product over channels, computed as a matrix
product over tiles. All transformations are sums, differences and halves, so float32 is as accurate as the direct sum.
Strips of tiles are processed one at a time: a strip fits the cache, and memory does not grow with the map. The kernel
gradient uses the same tiles; XLA's form takes several times as long on such maps.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_B = np.array([[1, 0, 0, 0], [0, 1, -1, 1], [-1, 1, 1, 0], [0, 0, 0, -1]], np.float32)  # input, its tile d -> B^T d B
_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)  # kernel
_A = np.array([[1, 0], [1, 1], [1, -1], [0, -1]], np.float32)  # output
_TILES_PER_STRIP = 256


def conv3x3(x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c o"]) -> Float[Array, "b h w o"]:
    """Convolution with stride 1 and one cell of zero padding; the result has the dtype of x, sums are float32."""
    (batch, height, width, _), features = x.shape, kernel.shape[-1]
    rows, columns, strips = _layout(height, width)
    padded = _pad_input(x, rows * strips, columns)
    transformed = jnp.einsum("ia,jb,abco->ijco", _G, _G, kernel.astype(jnp.float32))

    def convolve_strip(number: Array) -> Array:
        tiles = _input_tiles(padded, number // strips, number % strips, rows, columns)
        products = [[tiles[i][j] @ transformed[i, j] for j in range(4)] for i in range(4)]
        outputs = _transform(_A.T, [_transform(_A.T, products[i]) for i in range(4)])  # 2 x 2 of [tiles o]
        pixels = jnp.stack([jnp.stack([y.reshape(rows, columns, -1) for y in row], axis=2) for row in outputs], axis=1)
        return pixels.reshape(2 * rows, 2 * columns, features).astype(x.dtype)

    result = jax.lax.map(convolve_strip, jnp.arange(batch * strips))
    return result.reshape(batch, 2 * rows * strips, 2 * columns, features)[:, :height, :width]


def conv3x3_kernel_gradient(x: Float[Array, "b h w c"], cotangent: Float[Array, "b h w o"]) -> Float[Array, "3 3 c o"]:
    """Gradient of conv3x3 with respect to its kernel, in float32."""
    (batch, height, width, channels), features = x.shape, cotangent.shape[-1]
    rows, columns, strips = _layout(height, width)
    padded = _pad_input(x, rows * strips, columns)
    below, right = 2 * rows * strips - height, 2 * columns - width
    cotangent = jnp.pad(cotangent, ((0, 0), (0, below), (0, right), (0, 0)))

    def add_strip(number: Array, sums: list[list[Array]]) -> list[list[Array]]:
        image, strip = number // strips, number % strips
        tiles = _input_tiles(padded, image, strip, rows, columns)
        size = (1, 2 * rows, 2 * columns, features)
        pixels = jax.lax.dynamic_slice(cotangent, (image, strip * 2 * rows, 0, 0), size).astype(jnp.float32)
        pixels = pixels.reshape(rows, 2, columns, 2, features)
        products = _transform(_A, [_transform(_A, [pixels[:, p, :, q] for q in range(2)]) for p in range(2)])
        return [[sums[i][j] + tiles[i][j].T @ products[i][j].reshape(-1, features) for j in range(4)] for i in range(4)]

    zeros = [[jnp.zeros((channels, features), jnp.float32)] * 4] * 4
    sums = jax.lax.fori_loop(0, batch * strips, add_strip, zeros)
    return jnp.einsum("ia,jb,ijco->abco", _G, _G, jnp.stack([jnp.stack(row) for row in sums]))


def _layout(height: int, width: int) -> tuple[int, int, int]:
    """(tile rows per strip, tile columns per strip, strips per image)."""
    columns = -(-width // 2)
    rows = max(1, _TILES_PER_STRIP // columns)
    return rows, columns, -(-height // (2 * rows))


def _pad_input(x: Float[Array, "b h w c"], rows: int, columns: int) -> Float[Array, "b _ _ c"]:
    """One cell of zeros on every side, and more below and on the right to complete the tiles."""
    _, height, width, _ = x.shape
    return jnp.pad(x, ((0, 0), (1, 2 * rows + 1 - height), (1, 2 * columns + 1 - width), (0, 0)))


def _input_tiles(
    padded: Float[Array, "b _ _ c"], image: Array, strip: Array, rows: int, columns: int
) -> list[list[Float[Array, "t c"]]]:
    """The 4 x 4 entries of B^T d B, each for all tiles of a strip."""
    channels = padded.shape[-1]
    size = (1, 2 * rows + 2, 2 * columns + 2, channels)
    x = jax.lax.dynamic_slice(padded, (image, strip * 2 * rows, 0, 0), size)[0].astype(jnp.float32)
    by_row = _transform(_B.T, [x[i : i + 2 * rows - 1 : 2] for i in range(4)])
    tiles = [_transform(_B.T, [row[:, j : j + 2 * columns - 1 : 2] for j in range(4)]) for row in by_row]
    return [[entry.reshape(-1, channels) for entry in row] for row in tiles]


def _transform(matrix: Float[np.ndarray, "m n"], parts: Sequence) -> list:
    """matrix @ parts, where each part is an array or a tree of arrays."""

    def row(weights: np.ndarray) -> object:
        terms = [(weight, part) for weight, part in zip(weights.tolist(), parts, strict=True) if weight]
        return jax.tree.map(lambda *leaves: _sum([w for w, _ in terms], leaves), *[part for _, part in terms])

    return [row(weights) for weights in matrix]


def _sum(weights: Sequence[float], arrays: Sequence[Array]) -> Array:
    """The weighted sum, for weights 1 and -1."""
    total = arrays[0] if weights[0] > 0 else -arrays[0]
    for weight, array in zip(weights[1:], arrays[1:], strict=True):
        total = total + array if weight > 0 else total - array
    return total
