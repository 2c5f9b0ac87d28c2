"""`python -m lga_jax.commands.data.doctor` as a user calls it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A set of one image."""
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((30, 40, 3), np.uint8))
    _write(tmp_path, category=1)
    return tmp_path


def _write(folder: Path, category: int) -> None:
    image = {"id": 1, "file_name": "a.png", "height": 30, "width": 40}
    box = {"image_id": 1, "category_id": category, "bbox": [1, 2, 30, 20]}
    content = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "car"}]}
    (folder / "annotations.json").write_text(json.dumps(content))


def _call(folder: Path, *args: str) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "-m",
        "lga_jax.commands.data.doctor",
        "--config",
        str(ROOT / "configs" / "coco_json.py"),
        *args,
    ]
    for part in ("train", "eval"):
        command += [f"--config.data.{part}.root={folder}", f"--config.data.{part}.annotations=annotations.json"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(command, check=False, cwd=ROOT, env=env, capture_output=True, text=True)


def test_a_set_without_errors_ends_with_status_zero_and_is_written_down(folder):
    result = _call(folder, "--output", str(folder / "found"))
    assert result.returncode == 0, result.stderr
    assert "1 image, 1 box, 1 class\n" in result.stdout
    assert "0 errors, 1 warning, 0 notes" in result.stdout  # train and eval are the same
    assert {path.name for path in (folder / "found").iterdir()} == {"doctor.html", "doctor.json"}
    assert json.loads((folder / "found" / "doctor.json").read_text())["counts"] == {"error": 0, "warning": 1, "note": 0}
    assert "data.train: 100%" in result.stderr  # the bar


def test_errors_end_with_status_one(folder):
    _write(folder, category=2)
    result = _call(folder, "--quick")
    assert result.returncode == 1, result.stderr
    assert "1 annotation with an unknown category_id" in result.stdout
    assert "annotations[0] of a.png: category_id 2 at 1, 2, 30, 20" in result.stdout
    assert result.stderr == ""


def test_a_wrong_place_ends_with_status_two_and_one_line(folder):
    result = _call(folder / "nowhere")
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: data.train: annotation file ") and "No such file" in line


def test_what_decoders_say_does_not_stand_within_the_bar(folder):
    path = folder / "images" / "a.png"
    path.write_bytes(path.read_bytes()[:-40])
    result = _call(folder)
    assert "1 image that cannot be decoded" in result.stdout
    assert "WARN" not in result.stderr and "data.train: 100%" in result.stderr
