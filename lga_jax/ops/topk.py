"""The largest values of a long row."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# (largest k, values per chunk): XLA sorts chunks of 4,096 in the shared memory of a GPU by one kernel, and many rows of
# 16,384 by a radix sort.
_CHUNKS = ((256, 4096), (2000, 16384))


def top_k(values: Float[Array, "n"], k: int) -> tuple[Float[Array, "{k}"], Int[Array, "{k}"]]:
    """The k largest values in descending order, and their places; the earlier one first if values are equal.

    On GPUs XLA sorts the whole row for k above 16. There the largest values of chunks are chosen first. The result is
    the same, also for equal values, because the order of chunks is the order of places.
    """
    chunk = next((chunk for largest, chunk in _CHUNKS if k <= largest), None)
    if chunk is None or values.shape[0] < 4 * chunk:
        return _at_once(values, k)
    return jax.lax.platform_dependent(
        values, cuda=partial(_in_two_stages, k=k, chunk=chunk), default=partial(_at_once, k=k)
    )


def _at_once(values: Float[Array, "n"], k: int) -> tuple[Float[Array, "{k}"], Int[Array, "{k}"]]:
    found, places = jax.lax.top_k(values, k)
    return found, places


def _in_two_stages(values: Float[Array, "n"], k: int, chunk: int) -> tuple[Float[Array, "{k}"], Int[Array, "{k}"]]:
    chunks = jnp.pad(values, (0, -values.shape[0] % chunk), constant_values=-jnp.inf).reshape(-1, chunk)
    best, places = jax.lax.top_k(chunks, k)
    places += chunk * jnp.arange(len(chunks), dtype=places.dtype)[:, None]
    found, candidates = jax.lax.top_k(best.reshape(-1), k)
    return found, places.reshape(-1)[candidates]
