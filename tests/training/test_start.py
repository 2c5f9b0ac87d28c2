"""What is agreed on and given back before the first step."""

import jax
import numpy as np
import pytest

from lga_jax.errors import UserError
from lga_jax.training import start


def _agree(monkeypatch, *whats):
    """`check_processes_agree` as process 0 of several sees it, each with its own."""
    digests = []
    monkeypatch.setattr(jax, "process_count", lambda: len(whats))
    with monkeypatch.context() as patch:
        patch.setattr(start.multihost_utils, "process_allgather", lambda mine: digests.append(mine) or mine[None])
        for what in whats:
            start.check_processes_agree(what)
    monkeypatch.setattr(start.multihost_utils, "process_allgather", lambda mine: np.stack(digests))
    start.check_processes_agree(whats[0])


def test_processes_with_one_recipe_agree(monkeypatch):
    _agree(monkeypatch, [{"a": 1, "b": 2}, 3], [{"b": 2, "a": 1}, 3])


def test_processes_that_would_train_different_things_are_named(monkeypatch):
    with pytest.raises(UserError) as caught:
        _agree(monkeypatch, [{"seed": 1}, 3], [{"seed": 1}, 4], [{"seed": 1}, 3], [{"seed": 2}, 3])
    assert caught.value.subject == "processes 1, 3"


def test_one_process_asks_nobody(monkeypatch):
    monkeypatch.setattr(start.multihost_utils, "process_allgather", lambda _: pytest.fail("asked"))
    start.check_processes_agree([1])
