import io
import os
import re
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps, features

from lga_jax.data import decode as images
from lga_jax.data.decode import AnnotatedImages, decode_image, read_image_file, upright_hw
from lga_jax.data.source import UnreadableImageError
from lga_jax.errors import UserError
from tests.faults import refused


def _encoded(image: np.ndarray, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture
def image() -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 255, (6, 9, 3), np.uint8)
    return cv2.resize(small, (144, 96), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_give_the_pixels_in_rgb(image, kind):
    decoded = decode_image(_encoded(image, kind), "it")
    np.testing.assert_array_equal(decoded.image, image)
    assert not decoded.truncated


def test_jpeg_equals_pillow(image):
    data = _encoded(image, "JPEG", quality=90)
    np.testing.assert_allclose(decode_image(data, "it").image, np.asarray(Image.open(io.BytesIO(data))), atol=3)


def test_grey_palette_and_alpha_become_rgb(image):
    grey = decode_image(_encoded(image[..., 0], "PNG"), "it").image
    np.testing.assert_array_equal(grey, np.repeat(image[..., :1], 3, axis=2))
    opaque = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    np.testing.assert_array_equal(decode_image(_encoded(opaque, "PNG"), "it").image, image)


KINDS = [
    *[("JPEG", mode) for mode in ("RGB", "L", "CMYK")],
    *[("PNG", mode) for mode in ("RGB", "L", "P", "RGBA", "LA", "1")],
    *[("WEBP", mode) for mode in ("RGB", "RGBA")],
    *[("BMP", mode) for mode in ("RGB", "L", "P")],
    *[("TIFF", mode) for mode in ("RGB", "L", "CMYK", "RGBA", "LA", "LAB", "P", "F")],
    ("GIF", "P"),
]


@pytest.mark.parametrize(("kind", "mode"), KINDS)
def test_every_kind_equals_pillow(image, kind, mode):
    stream = io.BytesIO()
    colours = Image.fromarray(image)
    by_mode = Image.merge("LAB", colours.split()) if mode == "LAB" else colours.convert(mode)
    if mode in ("RGBA", "LA"):
        by_mode.putalpha(Image.fromarray(image[..., 1]))
    by_mode.save(stream, kind, **({"transparency": by_mode.getpixel((0, 0))} if mode == "P" and kind != "TIFF" else {}))
    with Image.open(stream) as by_pillow:
        expected = np.asarray(by_pillow.convert("RGB")).astype(int)
    # Inks become light by a product, which the two round differently.
    np.testing.assert_allclose(decode_image(stream.getvalue(), "it").image, expected, atol=1 if mode == "CMYK" else 0)
    assert np.ptp(expected) > 100


def test_of_sixteen_bits_the_upper_eight_count(image):
    grey = image[..., 0].astype(np.uint16) * 256 + 77
    shown = decode_image(_encoded(grey, "PNG"), "it").image
    np.testing.assert_array_equal(shown, np.repeat(image[..., :1], 3, axis=2))
    colours = cv2.imencode(".png", image[..., ::-1].astype(np.uint16) * 256 + 77)[1].tobytes()
    np.testing.assert_array_equal(decode_image(colours, "it").image, image)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_an_image_upright_unless_its_boxes_were_drawn_on_it_as_stored(image, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = _encoded(image, kind, exif=exif)
    with Image.open(io.BytesIO(data)) as stored:
        as_stored, upright = (np.asarray(i.convert("RGB")) for i in (stored, ImageOps.exif_transpose(stored)))
    as_stored = image if kind == "TIFF" else as_stored  # these Pillow turns as it reads them
    np.testing.assert_array_equal(decode_image(data, "it").image, upright)
    assert upright_hw(data, "it") == upright.shape[:2]
    np.testing.assert_array_equal(decode_image(data, "it", as_stored.shape[:2]).image, as_stored)
    if upright.shape != as_stored.shape:
        np.testing.assert_array_equal(decode_image(data, "it", upright.shape[:2]).image, upright)


def test_a_truncated_jpeg_gives_what_is_there_and_grey(image):
    data = _encoded(image, "JPEG", quality=90)
    whole = decode_image(data, "it").image
    part = decode_image(data[: len(data) // 2], "it")
    assert part.truncated
    assert part.image.shape == whole.shape
    np.testing.assert_array_equal(part.image[:16], whole[:16])
    assert np.ptp(part.image[-8:]) == 0


def test_a_progressive_jpeg_may_break_off_in_a_table_between_two_scans(image):
    data = _encoded(image, "JPEG", progressive=True)
    tables = [table.start() for table in re.finditer(rb"\xff\xc4", data)]
    later = [start for start in tables if start > data.index(b"\xff\xda")]
    assert len(later) > 3
    for start in later:
        for end in range(start, start + 30, 3):
            assert decode_image(data[:end], "it").truncated


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", [b"garbage!garbage", b"II", b"Exif\0\0II", b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12"])
def test_damaged_exif_does_not_cost_the_pixels(image, kind, exif):
    plain = decode_image(_encoded(image, kind), "it").image
    np.testing.assert_array_equal(decode_image(_encoded(image, kind, exif=exif), "it").image, plain)


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("/dev/zero", tmp_path, tmp_path / "pipe.png"):
        with refused(f"^{name}$"):
            read_image_file(name)
    (tmp_path / "a.png").write_bytes(b"12345")
    (tmp_path / "b.png").symlink_to("a.png")
    monkeypatch.setattr(images, "MAX_BYTES", 5)
    assert read_image_file(tmp_path / "b.png") == b"12345"
    monkeypatch.setattr(images, "MAX_BYTES", 4)
    with refused("a.png$", "^5$"):
        read_image_file(tmp_path / "a.png")


@pytest.mark.parametrize("keep", [0, 1, 2, 10, 60])
def test_what_breaks_off_in_its_header_is_unreadable(image, keep):
    with refused("^it$", f"{keep} byte", UnreadableImageError):
        decode_image(_encoded(image, "JPEG")[:keep], "it")


def test_other_formats_that_break_off_are_unreadable(image):
    data = _encoded(image, "PNG")
    with refused("^it$", kind=UnreadableImageError):
        decode_image(data[: len(data) // 2], "it")


def test_text_is_unreadable():
    with refused("^it$", "^a web page$", UnreadableImageError):
        decode_image(b"<html>404 not found</html>", "it")


def _png_of_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    checked = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + checked + struct.pack(">I", 1000) + b"IDAT"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_by_its_header():
    with refused("^it$", "178956971 pixels") as caught:
        decode_image(_png_of_header(178_956_971, 1), "it")
    assert not isinstance(caught.value, UnreadableImageError)
    with pytest.raises(UnreadableImageError):  # the same file, one pixel less
        decode_image(_png_of_header(178_956_970, 1), "it")


def test_a_file_larger_than_any_image_is_not_read(tmp_path):
    """8 bytes for each of 178,956,970 pixels, without room on the disk."""
    path = tmp_path / "large.png"
    path.touch()
    os.truncate(path, 8 * 178_956_970 + 1)
    with refused("large.png$"):
        read_image_file(path)


class _DamageError(Exception):
    """A type that no list of exceptions names."""


@pytest.mark.parametrize("place", ["PIL.Image.open", "cv2.imdecode"])
@pytest.mark.parametrize("error", [RuntimeError("avif"), KeyError(7), _DamageError(), struct.error()])
def test_any_exception_of_a_decoder_counts_as_unreadable(image, monkeypatch, place, error):
    """Pillow's plugins raise RuntimeError for a damaged AVIF, for example."""

    def fail(*_, **__):
        raise error

    data = _encoded(image, "PNG")
    monkeypatch.setattr(place, fail)
    with refused("^it$", kind=UnreadableImageError):
        decode_image(data, "it")


def test_a_machine_without_memory_says_nothing_about_the_image(image, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr("cv2.imdecode", fail)
    with pytest.raises(MemoryError):
        decode_image(_encoded(image, "PNG"), "it")


@pytest.mark.skipif(not features.check("avif"), reason="needs Pillow with AVIF")
def test_a_damaged_avif_is_unreadable_or_an_image(image):
    """Pillow's and OpenCV's decoders raise RuntimeError and cv2.error, among others."""
    whole = _encoded(image, "AVIF")
    assert np.abs(decode_image(whole, "it").image.astype(int) - image).mean() < 10
    rng, refusals = np.random.default_rng(0), 0
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(256)
        try:
            decode_image(bytes(data), "it")
        except UserError:
            refusals += 1
    assert refusals


@pytest.mark.parametrize("kind", ["EPS", "ICO", "PCX", "TGA"])
def test_formats_beyond_the_stated_ones_are_not_tried(image, kind):
    """Reading an EPS would start another program."""
    with refused("^it$", kind=UnreadableImageError):
        decode_image(_encoded(image, kind), "it")


def test_no_memory_in_opencv_says_nothing_about_the_image(image, monkeypatch):
    def fail(*_, **__):
        error = cv2.error("Failed to allocate 400000000 bytes")
        error.code = cv2.Error.StsNoMem
        raise error

    monkeypatch.setattr("cv2.imdecode", fail)
    with pytest.raises(MemoryError):
        decode_image(_encoded(image, "PNG"), "it")


def test_annotated_images_must_have_the_annotated_size(image):
    annotated = AnnotatedImages("all.json", "correct it")
    data = _encoded(image, "PNG")
    np.testing.assert_array_equal(annotated.decode(data, "a.png", (96, 144)), image)
    with refused("^a.png$", "^144 x 96$") as caught:
        annotated.decode(data, "a.png", (144, 96))
    assert (caught.value.expected, caught.value.remedy) == ("96 x 144 pixels as in all.json", "correct it")


def test_each_truncated_annotated_image_is_named_once(image, caplog):
    annotated = AnnotatedImages("all.json", "")
    data = _encoded(image, "JPEG")[:-200]
    for name in ("a.jpg", "b.jpg", "a.jpg"):
        annotated.decode(data, name, (96, 144))
    assert [record.args for record in caplog.records] == [("a.jpg", 1), ("b.jpg", 2)]
