"""`lga_jax export` as a user calls it; tests/exporting has what is written."""

import json
import zipfile

import pytest

from lga_jax.commands import export
from lga_jax.inference.predictor import load
from tests.commands.calling import run_command


def test_it_writes_one_file_with_the_given_size_and_threshold(tiny_run, tmp_path):
    output = tmp_path / "detector.stablehlo"
    flags = ("--workdir", tiny_run / "runs" / "tiny", "--format", "stablehlo", "--output", output)
    done = run_command(export, *flags, "--size", "48x32", "--score_threshold", "0.3")
    assert done.status == 0, done.stderr
    assert str(output) in done.stdout and "48x32" in done.stdout and "step 7" in done.stdout
    with zipfile.ZipFile(output) as archive:
        header = json.loads(archive.read("header.json"))
    data = header["config"]["data"]
    assert (header["sizes"], data["eval_short_edge"], data["long_edge"]) == ([[48, 32]], 32, 48)
    assert header["score_threshold"] == 0.3
    assert load(output).recipe.data.eval_buckets == ((48, 32),)


@pytest.mark.parametrize(
    "change",
    [("--size", "big"), ("--size", "9999x1"), ("--step", "x"), ("--format", "caffe"), ("--workdir", "none")],
)
def test_a_fault_is_one_line_and_nothing_is_written(tiny_run, tmp_path, change):
    flags = {"--workdir": tiny_run / "runs" / "tiny", "--format": "stablehlo", "--output": tmp_path / "x.stablehlo"}
    flags[change[0]] = change[1]
    done = run_command(export, *[part for flag in flags.items() for part in flag])
    assert (done.status, done.stdout) == (2, "") and change[1] in done.stderr
    assert list(tmp_path.iterdir()) == []
