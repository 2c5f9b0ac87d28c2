"""Errors of batches are known before the batches are due."""

import pytest

from lga_jax.data.batches.fill import empty_batch
from lga_jax.data.batches.lookahead import Lookahead

_BATCHES = [empty_batch(number, (1, 1), 0) for number in range(4)]


def _load():
    """A function that returns four batches and then always fails."""
    left = iter(_BATCHES)

    def load():
        if (batch := next(left, None)) is None:
            raise OSError("disk")
        return batch

    return load


def test_batches_come_in_order_and_the_error_is_known_before():
    ahead, known = Lookahead(_load(), 2), []
    for batch in _BATCHES:
        assert next(ahead) is batch
        known.append((ahead.num_ready, ahead.error is not None))
    assert known == [(2, False), (2, False), (1, True), (0, True)]
    for _ in range(2):
        with pytest.raises(OSError, match="disk"):
            next(ahead)


def test_without_lookahead_an_error_comes_with_its_batch():
    ahead = Lookahead(_load(), 0)
    assert all(next(ahead) is batch for batch in _BATCHES) and ahead.error is None
    with pytest.raises(OSError, match="disk"):
        next(ahead)
