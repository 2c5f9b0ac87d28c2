"""A user's own images as a source: which files, in which order, and what becomes of broken ones."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from lga_jax.data import decode
from lga_jax.data.folder import ImageFiles, find_images
from lga_jax.data.source import Source, UnreadableImageError
from lga_jax.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """b.png of 20 x 30, a.JPG of 40 x 10, a text under an image's name, a text, and a folder."""
    rng = np.random.default_rng(0)
    for name, hw in (("b.png", (20, 30)), ("a.jpg", (40, 10))):
        cv2.imwrite(str(tmp_path / name), rng.integers(0, 255, (*hw, 3), np.uint8))
    (tmp_path / "a.jpg").rename(tmp_path / "a.JPG")
    (tmp_path / "broken.png").write_text("no image")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "deeper.png").mkdir()
    return tmp_path


def names(paths):
    return [path.name for path in paths]


def test_images_are_found_in_the_order_of_their_names_and_the_rest_is_named(folder):
    found = find_images(str(folder))
    assert names(found.images) == ["a.JPG", "b.png", "broken.png"]
    assert names(found.left_out) == ["deeper.png", "notes.txt"]
    assert find_images(str(folder / "notes.txt")).images == [folder / "notes.txt"]  # named by the user


def test_companions_of_macos_are_ignored(folder):
    (folder / "._b.png").write_bytes(b"\x00\x05\x16\x07")
    found = find_images(str(folder))
    assert "._b.png" not in names(found.images + found.left_out)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "AVIF", "GIF", "PPM"])
def test_every_kind_that_training_reads_is_found_by_its_content(tmp_path, kind):
    if kind not in decode._FORMATS:
        pytest.skip(f"this Pillow reads no {kind}")
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(tmp_path / "picture", format=kind)
    (tmp_path / "picture").rename(tmp_path / "picture.dat")
    found = find_images(str(tmp_path))
    assert names(found.images) == ["picture.dat"]
    source = ImageFiles(found.images, ["car"])
    assert source.image(0).shape == (20, 30, 3) and abs(int(source.image(0)[10, 10, 0]) - 90) < 4


def test_records_are_numbered_as_the_files_and_broken_headers_have_none(folder):
    source = ImageFiles(find_images(str(folder)).images, ["car", "ship"])
    assert isinstance(source, Source)
    assert [(r.image_id, r.height, r.width, len(r.labels)) for r in source.records] == [(1, 40, 10, 0), (2, 20, 30, 0)]
    assert [path.name for path in source.paths] == ["a.JPG", "b.png"]
    assert [path.name for path in source.unreadable] == ["broken.png"]
    np.testing.assert_array_equal(source.image(1)[..., ::-1], cv2.imread(str(folder / "b.png")))


def test_numbers_do_not_close_up_behind_a_broken_file(folder):
    source = ImageFiles([folder / "broken.png", folder / "b.png"], ["car"])
    assert [record.image_id for record in source.records] == [2]
    assert source.image(0).shape == (20, 30, 3)


def test_ground_truth_has_the_images_and_no_annotation(folder):
    truth = ImageFiles([folder / "b.png"], ["car", "ship"]).truth()
    assert truth == {
        "images": [{"id": 1, "file_name": "b.png", "height": 20, "width": 30}],
        "annotations": [],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "ship"}],
    }


def test_pixels_that_do_not_decode_are_named(folder):
    path = folder / "b.png"
    path.write_bytes(path.read_bytes()[:200])  # the header is whole
    source = ImageFiles([path], ["car"])
    assert len(source.records) == 1
    assert not source.unreadable
    with pytest.raises(UnreadableImageError) as caught:
        source.image(0)
    assert caught.value.subject == str(path)
    assert list(source.unreadable) == [path]


def test_a_file_that_vanished_is_named(folder):
    source = ImageFiles([folder / "b.png"], ["car"])
    (folder / "b.png").unlink()
    with pytest.raises(UnreadableImageError) as caught:
        source.image(0)
    assert caught.value.subject == str(folder / "b.png")


def test_a_place_without_images_is_refused(folder, tmp_path):
    with pytest.raises(UserError) as caught:
        find_images(str(folder / "nowhere"))
    assert caught.value.subject == f"--input {folder / 'nowhere'}"
    with pytest.raises(UserError) as caught:
        find_images(str(folder / "deeper.png"))
    assert caught.value.subject == f"--input {folder / 'deeper.png'}"
