"""TIFF files of every kind: the rule of docs/data.md or the reason of a refusal."""

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from lga_jax.data.decode import decode_image, read_header
from lga_jax.data.source import UnreadableImageError
from lga_jax.data.tiff import describe_tiff
from lga_jax.inference.images import as_rgb
from tests.faults import refused

RAMP = np.linspace(0, 1, 6 * 8).reshape(6, 8)
EIGHT = np.rint(255 * RAMP).astype(np.uint8)


def tiff(pixels, **tags):
    """An uncompressed TIFF, with any value of the tags 259 and up; little-endian."""
    height, width, *bands = pixels.shape
    count = bands[0] if bands else 1
    formats = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    values = {256: width, 257: height, 258: 8 * pixels.itemsize, 259: 1, 262: 2 if count == 3 else 1, 273: 512}
    values |= {277: count, 278: height, 279: pixels.nbytes, 339: formats}
    values |= {int(name.removeprefix("tag")): value for name, value in tags.items()}
    entries, extra = b"", b""
    for tag, value in sorted(values.items()):
        if tag in (258, 339) and count > 2:  # one value for each band, behind the directory
            entries += struct.pack("<HHII", tag, 3, count, 256 + len(extra))
            extra += struct.pack("<H", value) * count
        else:
            entries += struct.pack("<HHII", tag, 4, 1, value)
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(values)) + entries + bytes(4)
    return head.ljust(256, b"\0") + extra.ljust(256, b"\0") + pixels.tobytes()


KINDS = {
    "8 bits": (EIGHT, "", 0),
    "12 bits of 16": (np.rint(4095 * RAMP).astype(np.uint16), "12 bits", 1),
    "16 bits": (np.rint(65535 * RAMP).astype(np.uint16), "16 bits", 1),
    "16 bits with a sign": (np.rint(32767 * RAMP).astype(np.int16), "16 bits", None),
    "32 bits": (np.rint(65535 * RAMP).astype(np.uint32), "16 bits", 1),
    "32 bits with a sign": (np.rint(65535 * RAMP).astype(np.int32), "16 bits", 1),
    "32 bits, eight used": (EIGHT.astype(np.int32), "32 bits, values below 256", 0),
    "floats from 0 to 1": (RAMP.astype(np.float32), "floats from 0 to 1", 0),
    "floats from 0 to 255": ((255 * RAMP).astype(np.float32), "floats from 0 to 255", 0),
}


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize(("pixels", "values", "tolerance"), KINDS.values(), ids=KINDS)
def test_each_kind_is_scaled_by_the_rule_or_refused(pixels, values, tolerance, bands):
    """Three bands of 32 bits, floats or signed integers are refused by name."""
    data = tiff(pixels if bands == 1 else np.repeat(pixels[..., None], 3, axis=2))
    if bands == 3 and pixels.dtype not in (np.uint8, np.uint16):
        with refused("^it$", "a TIFF of 3 bands", UnreadableImageError):
            decode_image(data, "it")
        return
    decoded = decode_image(data, "it")
    assert (decoded.values, decoded.truncated) == (values, False)
    expected = EIGHT if tolerance is not None else EIGHT // 2
    np.testing.assert_allclose(decoded.image.astype(int), np.repeat(expected[..., None], 3, 2), atol=tolerance or 1)
    assert read_header(data, "it").deep == (pixels.itemsize > 1)


REFUSED = {
    "signed bytes": (tiff((EIGHT // 2).astype(np.int8)), "signed integers of 8 bits"),
    "white is zero": (tiff(np.rint(65535 * RAMP).astype(np.uint16), tag262=0), "16 bits where the lowest value"),
    "white is zero in floats": (tiff(RAMP.astype(np.float32), tag262=0), "32 bits where the lowest value"),
    "negative floats": (tiff((RAMP - 0.5).astype(np.float32)), "floats from -0.5 to 0.5"),
    "large floats": (tiff((1e4 * RAMP).astype(np.float32)), "floats from 0 to 10000"),
    "large integers": (tiff((1e6 * RAMP).astype(np.int32)), "integers from 0 to 1000000"),
    "doubles": (tiff(RAMP), "a TIFF of 1 bands, floats of 64 bits"),
    "bands without colours": (
        tiff(np.repeat(EIGHT[..., None], 3, 2), tag262=1),
        "3 bands, unsigned integers of 8 bits",
    ),
    "five bands": (tiff(np.repeat(EIGHT[..., None], 5, 2)), "a TIFF of 5 bands"),
    "four bands of 16 bits": (
        cv2.imencode(".tif", np.full((6, 8, 4), 3000, np.uint16))[1].tobytes(),
        "4 bands of 16 bits",
    ),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED)
def test_other_kinds_are_refused_with_the_reason(data, reason):
    with refused("^it$", reason, UnreadableImageError):
        decode_image(data, "it")


def test_predictions_convert_by_the_same_rule(tmp_path):
    for name, (pixels, _, _) in KINDS.items():
        data = tiff(pixels)
        (tmp_path / "a.tif").write_bytes(data)
        expected = decode_image(data, "it").image
        np.testing.assert_array_equal(as_rgb(tmp_path / "a.tif", ""), expected, err_msg=name)
        np.testing.assert_array_equal(as_rgb(Image.open(io.BytesIO(data)), ""), expected, err_msg=name)
    (tmp_path / "a.tif").write_bytes(tiff((1e4 * RAMP).astype(np.float32)))
    for image in (tmp_path / "a.tif", Image.open(tmp_path / "a.tif")):
        with refused("", "floats from 0 to 10000") as caught:
            as_rgb(image, "image 0")
        assert not isinstance(caught.value, UnreadableImageError)


@pytest.mark.parametrize("data", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*" + bytes(20), b"PK\3\4"])
def test_damaged_files_have_no_description(data):
    assert describe_tiff(data) is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_colours_keep_their_orientation(orientation):
    """The decoder for deep colours turns a TIFF upright too."""
    colours = np.dstack([4095 * RAMP, 4095 * RAMP.T.reshape(6, 8), 2000 * RAMP]).astype(np.uint16)
    shallow = tiff((colours >> 4).astype(np.uint8), tag274=orientation)
    deep = tiff(colours, tag274=orientation)
    np.testing.assert_array_equal(decode_image(deep, "it").image, decode_image(shallow, "it").image)
    stored = colours.shape[:2]
    np.testing.assert_array_equal(decode_image(deep, "it", stored).image, (colours >> 4).astype(np.uint8))
