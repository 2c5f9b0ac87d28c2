"""The file of each name: the exact one, or the only one that fits; never one outside the folder."""

import os
import unicodedata
from pathlib import Path

import pytest

from lga_jax.data.coco.image_files import describe_changes, find_image_files

NFC, NFD = (unicodedata.normalize(form, "Gerät_é.png") for form in ("NFC", "NFD"))


@pytest.fixture
def folder(tmp_path: Path):
    """folder(names) makes tmp_path/images with these files."""

    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / "images"

    return make


@pytest.mark.parametrize(
    ("name", "path", "num_changes"),
    [
        ("a.png", "a.png", 0),
        ("sub/b.png", "sub/b.png", 0),
        ("./sub//b.png", "./sub//b.png", 0),
        (r"sub\b.png", "sub/b.png", 1),
        ("images/a.png", "a.png", 1),
        (r"images\a.png", "a.png", 2),
        (r"..\images\sub\b.png", "sub/b.png", 2),
        ("../images/a.png", "a.png", 1),
        ("/home/user/set/images/sub/b.png", "sub/b.png", 1),
        (r"D:\set\images\a.png", "a.png", 2),
        ("c%20%281%29.png", "c (1).png", 1),
        ("images%2Fc%20(1).png", "c (1).png", 2),
        (NFC, NFD, 1),
        ("a.PNG", "a.png", 1),
        ("d.jpg", "d.JPG", 1),
        ("d", "d.JPG", 1),
        ("images/d.jpg", "d.JPG", 2),
    ],
)
def test_a_name_with_one_file_is_matched_and_each_difference_is_counted(folder, name, path, num_changes):
    written = {7: name}
    files = find_image_files(folder("a.png", "sub/b.png", "c (1).png", NFD, "d.JPG"), written)
    assert files.faults == [] and files.paths == {7: path}
    assert len(files.changes.get(7, ())) == num_changes
    lines = describe_changes(written, files)
    assert len(lines) == bool(num_changes) and all(repr(path) in line for line in lines)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("http://host/images/a.png", "file_name_url"),
        ("s3://bucket/a.png", "file_name_url"),
        ("data:image/png;base64,AAAA", "file_name_url"),
        ("/photos/a.png", "file_name_absolute"),
        (r"C:\photos\a.png", "file_name_absolute"),
        ("/dev/zero", "file_name_absolute"),
        ("../a.png", "file_name_outside"),
        (r"x\..\..\outside.png", "file_name_outside"),
        ("%2e%2e/outside.png", "file_missing"),
        ("images/../outside.png", "file_name_outside"),
        ("A.png", "file_missing"),
        ("a.jpg", "file_missing"),
        ("photos/a.png", "file_missing"),
        ("no/a\0.png", "file_missing"),
        ("", "file_missing"),
        ("a.png/a.png", "file_missing"),
    ],
)
def test_a_name_without_a_certain_file_is_a_fault_of_its_kind(folder, name, kind):
    root = folder("a.png")
    (root.parent / "outside.png").touch()
    files = find_image_files(root, {3: name, 4: "a.png"})
    (fault,) = files.faults
    assert (fault.kind, fault.positions, files.changes) == (f"images.{kind}", [3], {})
    assert repr(name) in fault.found


def test_several_files_that_fit_are_ambiguous_and_an_exact_name_is_not(folder):
    root = folder("a.PNG", "a.Png", "b.jpg", "b.png", "c.png", "images/c.png")
    files = find_image_files(root, {0: "a.png", 1: "b", 2: "a.Png", 3: "images/c.png"})
    assert [(fault.kind, fault.positions) for fault in files.faults] == [("images.file_name_ambiguous", [0, 1])]
    assert (files.paths[2], files.paths[3]) == ("a.Png", "images/c.png")
    assert "'a.PNG'" in files.faults[0].found and "'a.Png'" in files.faults[0].found


def test_one_file_is_not_given_to_two_names(folder):
    files = find_image_files(folder("a.png", "b.png"), {0: "images/a.png", 1: "a.png", 2: "b.PNG", 3: "b.PNG"})
    assert [(fault.kind, fault.positions) for fault in files.faults] == [("images.file_name_ambiguous", [0])]
    assert (files.paths[2], files.paths[3]) == ("b.png", "b.png")  # one name, listed twice


def test_missing_files_are_counted_and_an_empty_or_wrong_folder_is_said(folder):
    root = folder("x/1.png")
    (fault,) = find_image_files(root, {0: "a.png", 5: "b.png"}).faults
    assert fault.positions == [0, 5] and fault.found.startswith("2 of 2 missing, first 'a.png'")
    assert "1 entries, first 'x'" in fault.found
    (fault,) = find_image_files(root, {0: "a.png", 5: "x/1.png"}).faults
    assert fault.found == "1 of 2 missing, first 'a.png'"
    os.rename(root / "x", root.parent / "x")
    assert "no entries" in find_image_files(root, {0: "a.png"}).faults[0].found
