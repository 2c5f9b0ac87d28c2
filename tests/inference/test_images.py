"""What callers may give as an image, and what becomes of it: RGB pixels of uint8, upright."""

import cv2
import numpy as np
import pytest
from PIL import Image

from lga_jax.data.source import UnreadableImageError
from lga_jax.errors import UserError
from lga_jax.inference.images import GivenImages, as_rgb

RGB = np.random.default_rng(0).integers(0, 255, (6, 9, 3), np.uint8)
TURN = 6  # EXIF: what is stored is shown after a turn to the right


def test_an_rgb_array_stays_as_it_is():
    np.testing.assert_array_equal(as_rgb(RGB, "image"), RGB)


def test_a_view_of_an_array_becomes_one_that_opencv_takes():
    flipped = as_rgb(RGB[:, ::-1], "image")
    np.testing.assert_array_equal(flipped, RGB[:, ::-1])
    assert flipped.flags.c_contiguous


@pytest.mark.parametrize("shape", [(6, 9), (6, 9, 1)])
def test_grey_has_three_equal_channels(shape):
    grey = RGB[..., 0].reshape(shape)
    np.testing.assert_array_equal(as_rgb(grey, "image"), np.stack([RGB[..., 0]] * 3, axis=-1))


def test_alpha_is_left_out():
    alpha = np.full((6, 9, 1), 7, np.uint8)
    np.testing.assert_array_equal(as_rgb(np.concatenate([RGB, alpha], axis=-1), "image"), RGB)


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (RGB.astype(np.float32) / 255, "dtype float32"),
        (RGB.astype(np.int64), "dtype int64"),
        (RGB[None], "(1, 6, 9, 3)"),
        (RGB[0, 0], "(3,)"),
        (np.zeros((6, 9, 2), np.uint8), "(6, 9, 2)"),
        (np.zeros((0, 9, 3), np.uint8), "(0, 9, 3)"),
        (None, "a NoneType"),
        ([1, 2], "a list"),
    ],
)
def test_what_is_no_image_is_a_users_error(image, found):
    with pytest.raises(UserError) as raised:
        as_rgb(image, "image 3")
    assert (raised.value.subject, raised.value.found) == ("image 3", found)


def test_files_and_pil_images_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = TURN
    path = tmp_path / "turned.png"
    Image.fromarray(RGB).save(path, exif=exif)
    upright = np.rot90(RGB, -1)
    np.testing.assert_array_equal(as_rgb(path, "image"), upright)
    np.testing.assert_array_equal(as_rgb(str(path), "image"), upright)
    with Image.open(path) as opened:
        np.testing.assert_array_equal(as_rgb(opened, "image"), upright)


def test_modes_of_pil_images_become_rgb():
    grey = RGB[..., 0]
    np.testing.assert_array_equal(as_rgb(Image.fromarray(grey), "image"), np.stack([grey] * 3, axis=-1))
    np.testing.assert_array_equal(as_rgb(Image.fromarray(RGB).convert("RGBA"), "image"), RGB)
    deep = Image.fromarray(grey.astype(np.uint16) * 256 + 5)
    np.testing.assert_array_equal(as_rgb(deep, "image"), np.stack([grey] * 3, axis=-1))


def test_a_source_has_the_sizes_before_pixels_are_read(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), RGB[..., ::-1])
    source = GivenImages([tmp_path / "a.png", RGB[:4], Image.fromarray(RGB[:, :5])], ("crane",))
    assert [(r.image_id, r.height, r.width) for r in source.records] == [(0, 6, 9), (1, 4, 9), (2, 6, 5)]
    for index, expected in enumerate((RGB, RGB[:4], RGB[:, :5])):
        np.testing.assert_array_equal(source.image(index), expected)
    assert source.class_names == ("crane",)


def test_a_leading_tilde_is_the_users_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    cv2.imwrite(str(tmp_path / "a.png"), RGB[..., ::-1])
    np.testing.assert_array_equal(GivenImages(["~/a.png"], ()).image(0), RGB)
    np.testing.assert_array_equal(as_rgb("~/a.png", ""), RGB)


def test_a_missing_file_is_named_at_once(tmp_path):
    with pytest.raises(UserError) as raised:
        GivenImages([RGB, tmp_path / "none.png"], ())
    assert raised.value.subject == str(tmp_path / "none.png")


def test_a_wrong_array_has_its_place_in_the_list_as_subject():
    with pytest.raises(UserError) as raised:
        GivenImages([RGB, RGB.astype(float)], ())
    assert raised.value.subject == "image 1"


def test_pixels_that_do_not_decode_are_an_error_that_no_loader_replaces_by_grey(tmp_path):
    path = tmp_path / "half.png"
    path.write_bytes(cv2.imencode(".png", RGB)[1].tobytes()[:60])  # a header, no pixels
    source = GivenImages([path], ())
    with pytest.raises(UserError) as raised:
        source.image(0)
    assert raised.value.subject == str(path) and not isinstance(raised.value, UnreadableImageError)
