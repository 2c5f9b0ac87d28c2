"""`lga_jax prepare` as a user calls it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lga_jax.commands.data import prepare as prepare_command
from tests.data.tfds_sets import taken_for_official, voc_archives

VOC = {"000005": [dict(name="car", difficult=0, xmin=1, ymin=1, xmax=60, ymax=40)]}


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["prepare", *arguments])
    prepare_command.main()


def test_a_folder_is_prepared_from_the_command_line(make_folder, tmp_path):
    folder = ("--root", str(make_folder()), "--annotations", "annotations.json", "--images", "images")
    command = [
        sys.executable,
        "-m",
        "lga_jax.commands.data.prepare",
        "coco_json",
        "--name",
        "mine",
        "--split",
        "train",
        *folder,
    ]
    for _ in range(2):
        done = subprocess.run([*command, "--data_dir", str(tmp_path / "tfds")], capture_output=True, text=True)
        if done.returncode:
            break
        assert f"mine train in {tmp_path / 'tfds'}: 2 images, 3 boxes, 3 classes\n" in done.stdout
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert done.stderr.splitlines()[-1].endswith("found one; remove it or choose another --name")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "arguments are required"),
        (["voc/2007"], "arguments are required: --data_dir"),
        (["voc/2007", "--data_dir", "d", "--name", "mine"], "voc/2007 takes only --data_dir and --manual_dir"),
        (["coco_json", "--data_dir", "d", "--name", "mine"], "coco_json takes --name, --root, and as many"),
        (
            ["coco_json", "--data_dir=d", "--name=n", "--root=r", "--split", "a", "b", "--annotations=x", "--images=y"],
            "as many --annotations and --images as --split",
        ),
        (
            ["coco_json", "--data_dir=d", "--name=n", "--root=r", "--split", "a", "a"],
            "--split: expected each name once, found a a",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_said(monkeypatch, capsys, arguments, expected: str):
    with pytest.raises(SystemExit, match="2"):
        _run(monkeypatch, *arguments)
    assert expected in capsys.readouterr().err


def test_leftovers_are_named_before_anything_else(monkeypatch, capsys, tmp_path):
    (tmp_path / "voc" / "2007" / "incomplete.A1B2C3_5.0.0").mkdir(parents=True)
    with pytest.raises(SystemExit, match="2"):
        _run(monkeypatch, "voc/2007", "--data_dir", str(tmp_path), "--manual_dir", str(tmp_path / "downlaods"))
    leftovers, fault = capsys.readouterr().err.splitlines()
    assert "incomplete.A1B2C3_5.0.0: 0.0 MiB of an unfinished preparation" in leftovers
    assert fault.startswith("error: --manual_dir: expected a folder with archives, found none at ")


def test_an_official_set_is_prepared_from_the_command_line(
    monkeypatch, capsys, tmp_path, make_folder: Callable[..., Path]
):
    archives = voc_archives(tmp_path / "archives", "2012", VOC)
    with taken_for_official("voc", archives):
        _run(monkeypatch, "voc/2012", "--data_dir", str(tmp_path), "--manual_dir", str(tmp_path / "archives"))
    assert f"voc/2012 train in {tmp_path}: 1 images, 1 boxes, 20 classes\n" in capsys.readouterr().out
