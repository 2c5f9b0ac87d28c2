"""`lga_jax preview` as a user calls it."""

import cv2

from lga_jax.commands.data import preview
from tests.commands.calling import run_command


def test_sheets_of_the_samples_are_written_and_named(tiny_run, tmp_path):
    args = ("--config", "tiny.py", "--output", tmp_path / "sheets", "--num_images", "18")
    done = run_command(preview, *args, "--config.data.train.num_images=20", folder=tiny_run)
    assert done.status == 0, done.stderr
    names = [path.name for path in sorted((tmp_path / "sheets").iterdir())]
    assert names == ["preview_000.jpg", "preview_001.jpg"]
    assert all(name in done.stdout for name in names)
    full, rest = (cv2.imread(str(tmp_path / "sheets" / name)).shape for name in names)
    assert full[0] > 3 * rest[0] and full[1] == 2 * rest[1]  # four rows of four samples, one of two


def test_the_output_is_required(tiny_run):
    done = run_command(preview, "--config", "tiny.py", folder=tiny_run)
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --output: ") and done.stderr.count("\n") == 1
