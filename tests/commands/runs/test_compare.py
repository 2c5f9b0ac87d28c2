"""`lga_jax compare` as a user calls it."""

import pytest

from lga_jax.commands.runs import compare as compare_command
from tests.commands.calling import run_command
from tests.evaluation.evaluations import write_evaluation


def test_compare_prints_scores_and_writes_a_page(tmp_path):
    write_evaluation(tmp_path / "one", keep=0.5)
    write_evaluation(tmp_path / "two")
    done = run_command(compare_command, "one", "two", "--samples", 5, folder=tmp_path)
    assert done.status == 0, done.stderr
    assert "B: two, step 7" in done.stdout and "1.000 [1.000, 1.000]" in done.stdout
    assert {path.name for path in (tmp_path / "comparison").iterdir()} == {"comparison.html", "comparison.json"}


@pytest.mark.parametrize(
    ("args", "subject"),
    [(["one"], "RUN"), (["one", "none"], "none"), (["one", "one", "--samples", "0"], "--samples")],
)
def test_faults_are_one_line_and_write_nothing(tmp_path, args, subject):
    write_evaluation(tmp_path / "one")
    done = run_command(compare_command, *args, folder=tmp_path)
    assert done.status == 2 and done.stderr.startswith(f"error: {subject}: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "comparison").exists()
