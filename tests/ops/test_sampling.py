import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lga_jax.ops.sampling import sample_balanced

COUNT = 40


@jax.jit
def draw(key, positive, negative):
    return sample_balanced(key, positive, negative, jnp.arange(COUNT) * 10, num_samples=16, positive_fraction=0.25)


def labels(num_positive: int, num_negative: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Shuffled masks; the rest is ignored."""
    order = np.random.default_rng(seed).permutation(COUNT)
    positive, negative = np.zeros((2, COUNT), bool)
    positive[order[:num_positive]] = True
    negative[order[num_positive : num_positive + num_negative]] = True
    return positive, negative


def test_by_eye():
    positive = jnp.array([False, True, False, False])
    negative = jnp.array([True, False, False, True])
    samples = sample_balanced(
        jax.random.key(0), positive, negative, jnp.array([7, 8, 9, 6]), num_samples=4, positive_fraction=0.5
    )
    assert samples.positive.tolist() == [True, False, False, False]
    assert samples.valid.tolist() == [True, True, True, False]  # one positive, two negatives, nothing left
    assert samples.index[0] == 1
    assert set(samples.index[1:3].tolist()) == {0, 3}
    assert samples.matched[0] == 8


@given(st.integers(0, COUNT), st.integers(0, COUNT), st.integers(0, 1000))
def test_counts_order_and_membership(num_positive, num_negative, seed):
    num_negative = min(num_negative, COUNT - num_positive)
    positive, negative = labels(num_positive, num_negative, seed)
    samples = jax.tree.map(np.asarray, draw(jax.random.key(seed), positive, negative))

    expected_positive = min(num_positive, 4)
    expected_negative = min(num_negative, 16 - expected_positive)
    slots = np.arange(16)
    np.testing.assert_array_equal(samples.positive, slots < expected_positive)
    np.testing.assert_array_equal(samples.valid, slots < expected_positive + expected_negative)
    assert positive[samples.index[samples.positive]].all()
    assert negative[samples.index[samples.valid & ~samples.positive]].all()
    chosen = samples.index[samples.valid]
    assert len(set(chosen.tolist())) == len(chosen)  # without replacement
    np.testing.assert_array_equal(samples.matched, samples.index * 10)


def test_jit_changes_nothing():
    positive, negative = labels(10, 20)
    for one, other in zip(
        draw(jax.random.key(3), positive, negative),
        draw.__wrapped__(jax.random.key(3), jnp.asarray(positive), jnp.asarray(negative)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_every_candidate_has_the_same_chance():
    positive, negative = labels(10, 20)
    keys = jax.random.split(jax.random.key(0), 4000)
    samples = jax.vmap(draw, in_axes=(0, None, None))(keys, jnp.asarray(positive), jnp.asarray(negative))
    times = np.bincount(np.asarray(samples.index)[np.asarray(samples.valid)], minlength=COUNT)
    # 4 of 10 positives, 12 of 20 negatives; 5 standard deviations of a binomial.
    np.testing.assert_allclose(times[positive] / 4000, 0.4, atol=5 * np.sqrt(0.4 * 0.6 / 4000))
    np.testing.assert_allclose(times[negative] / 4000, 0.6, atol=5 * np.sqrt(0.6 * 0.4 / 4000))
    assert not times[~positive & ~negative].any()


def test_the_key_decides():
    positive, negative = labels(10, 20)
    first, again, other = (draw(jax.random.key(key), positive, negative).index for key in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("positive_fraction", [0.0, 0.5, 1.0])
def test_more_slots_than_candidates(positive_fraction):
    positive, negative = jnp.array([True, True, False]), jnp.array([False, False, True])
    samples = sample_balanced(
        jax.random.key(0),
        positive,
        negative,
        jnp.zeros(3, jnp.int32),
        num_samples=8,
        positive_fraction=positive_fraction,
    )
    num_positive = 0 if positive_fraction == 0 else 2
    assert int(samples.positive.sum()) == num_positive
    assert int(samples.valid.sum()) == num_positive + 1
    assert ((samples.index >= 0) & (samples.index < 3)).all()
