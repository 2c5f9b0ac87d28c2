"""The threshold that an evaluation of the checkpoint has stored."""

import json

import pytest

from lga_jax.errors import UserError
from lga_jax.inference.best_threshold import evaluation_folder, read_best_threshold


def write(workdir, content):
    folder = evaluation_folder(str(workdir), 7)
    folder.mkdir()
    (folder / "metrics.json").write_text(content if isinstance(content, str) else json.dumps(content))


def metrics(threshold, checkpoint="abc"):
    return {"checkpoint": checkpoint, "analysis": {"best_threshold": {"threshold": threshold}}}


def test_the_threshold_of_the_step_is_read(tmp_path):
    write(tmp_path, metrics(0.37))
    assert read_best_threshold(str(tmp_path), 7, "abc") == 0.37


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "no "),
        ("{", "damaged"),
        ("[" * 10**5, "damaged"),
        ({"summary": {}}, "earlier version"),
        (metrics(0.4, checkpoint="other"), "other parameters"),
        (metrics(None), "none in"),
    ],
)
def test_without_a_usable_evaluation_there_is_an_error(tmp_path, content, found):
    if content is not None:
        write(tmp_path, content)
    with pytest.raises(UserError) as raised:
        read_best_threshold(str(tmp_path), 7, "abc")
    assert raised.value.subject == "score_threshold=auto" and found in raised.value.found
    assert raised.value.remedy
