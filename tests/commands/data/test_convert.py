"""`lga_jax convert`: files for the recipes of COCO JSON, and flags that name them; nothing overwritten."""

import shlex

import cv2
import numpy as np

from lga_jax.commands.data import convert, doctor
from tests.commands.calling import run_command


def _make(root):
    for split in ("train", "valid"):
        for part in ("images", "labels"):
            (root / split / part).mkdir(parents=True)
        image = np.random.default_rng(ord(split[0])).integers(0, 255, (40, 80, 3), np.uint8)
        cv2.imwrite(str(root / split / "images" / "a.png"), image)
        (root / split / "labels" / "a.txt").write_text("0 .5 .5 .5 .5\n")
    (root / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: [cat]\n")


def test_yolo_folders_become_files_that_the_doctor_finds_sound(tmp_path):
    _make(tmp_path)
    arguments = ("yolo", "--input", tmp_path / "data.yaml", "--output", tmp_path / "out")
    done = run_command(convert, *arguments)
    assert done.status == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["train.json", "val.json"]
    command = shlex.split(done.stdout.splitlines()[-1])
    assert command[:2] == ["lga_jax", "doctor"]
    found = run_command(doctor, *command[2:])
    assert found.status == 0 and "0 errors, 0 warnings" in found.stdout
    before = (tmp_path / "out" / "train.json").read_bytes()
    again = run_command(convert, *arguments)
    assert again.status == 2 and (tmp_path / "out" / "train.json").read_bytes() == before


def test_a_fault_is_one_line_and_nothing_is_written(tmp_path):
    _make(tmp_path)
    (tmp_path / "valid" / "labels" / "a.txt").write_text("7 .5 .5 .5 .5\n")
    done = run_command(convert, "yolo", "--input", tmp_path / "data.yaml", "--output", tmp_path / "out")
    assert done.status == 2 and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
