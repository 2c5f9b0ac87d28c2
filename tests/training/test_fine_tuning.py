"""A run that starts from the workdir of another, with a real detector."""

import numpy as np
import pytest

from lga_jax.checkpoints.read import restore_params
from lga_jax.data.source import open_source
from lga_jax.training import run as loop
from lga_jax.training.run import open_run, train
from tests.training.stubs import StubEvaluation, tiny_config


class Renamed:
    """A source with other names for its classes, and one more class that no image shows."""

    def __init__(self, source):
        self._source = source
        self.class_names = ("lorry", *source.class_names[1:], "ship")
        self.records, self.image = source.records, source.image

    def truth(self):
        names = {name: number for number, name in enumerate(self.class_names, 1)}
        return self._source.truth() | {"categories": [dict(id=number, name=name) for name, number in names.items()]}


def config_of(**changes):
    config = tiny_config()
    config.update_from_flattened_dict({"num_steps": 2} | changes)
    return config


@pytest.mark.slow
def test_a_run_with_group_norm_is_fine_tuned_on_other_classes(tmp_path, monkeypatch):
    """Group norm has no statistics, so the checkpoint has none to load."""
    monkeypatch.setattr(loop, "score_source", StubEvaluation(("rpn", "deltas", "kernel")))
    train(config_of(), str(tmp_path / "a"))
    theirs = restore_params(str(tmp_path / "a")).variables
    assert theirs["batch_stats"] == {}
    config = config_of(**{"model.init_from": str(tmp_path / "a")})
    source, eval_source = (Renamed(open_source(**config.data[part])) for part in ("train", "eval"))
    with open_run(config, str(tmp_path / "b"), source=source, eval_source=eval_source) as run:
        ours = run.state.params
        np.testing.assert_array_equal(
            ours["backbone"]["conv1"]["kernel"], theirs["params"]["backbone"]["conv1"]["kernel"]
        )
        rows, known = (np.asarray(tree["box_head"]["classes"]["kernel"]) for tree in (ours, theirs["params"]))
        assert rows.shape[1] == known.shape[1] + 1
        np.testing.assert_array_equal(rows[:, 1:-2], known[:, 1:-1])  # names that both have
        np.testing.assert_array_equal(rows[:, -1], known[:, -1])  # the background
        assert (rows[:, 0] != known[:, 0]).all()
        assert [step for step, _ in run] == [1, 2]
    saved = restore_params(str(tmp_path / "b"))
    assert (saved.step, saved.manifest["class_names"]) == (2, list(source.class_names))
