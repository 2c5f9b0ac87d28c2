import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.ops import topk
from tests.ops.platforms import use_forms_of


@pytest.fixture
def short_chunks(monkeypatch):
    monkeypatch.setattr(topk, "_CHUNKS", ((8, 16),))
    use_forms_of("cuda", monkeypatch)


def test_the_largest_values_and_their_places(short_chunks):
    values = jnp.zeros(100).at[jnp.array([99, 3, 50])].set(jnp.array([1.0, 2.0, 3.0]))
    found, places = topk.top_k(values, 3)
    assert (found.tolist(), places.tolist()) == ([3.0, 2.0, 1.0], [50, 3, 99])


@pytest.mark.parametrize("length", [64, 100, 160])
@pytest.mark.parametrize("k", [1, 7, 8])
def test_two_stages_equal_one(short_chunks, length, k):
    """Few different values, so that many are equal; some rows are nearly empty."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        values = np.where(rng.random(length) < (0.02 if seed == 0 else 1.0), rng.integers(0, 4, length), -np.inf)
        values = jnp.asarray(values, jnp.float32)
        for ours, plain in zip(topk.top_k(values, k), jax.lax.top_k(values, k), strict=True):
            np.testing.assert_array_equal(ours, plain)


def test_only_long_rows_of_gpus_have_two_stages():
    def operands(platform, length, k):
        traced = jax.jit(topk.top_k, static_argnums=1).trace(jax.ShapeDtypeStruct((length,), jnp.float32), k)
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        return [line.split(" : ")[-1].split(" ->")[0] for line in text.splitlines() if "chlo.top_k" in line]

    assert operands("cuda", 268_569, 256) == ["tensor<66x4096xf32>", "tensor<16896xf32>"]
    assert operands("cuda", 201_600, 2_000) == ["tensor<13x16384xf32>", "tensor<26000xf32>"]
    assert operands("cuda", 10_000, 1_000) == operands("cuda", 10_000, 1_000) == ["tensor<10000xf32>"]
    assert operands("tpu", 268_569, 256) == operands("cpu", 268_569, 256) == ["tensor<268569xf32>"]
