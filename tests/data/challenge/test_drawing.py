"""What is drawn: boxes that fit the pixels, classes that differ in the part alone, effects that grow with severity."""

import numpy as np
import pytest

from lga_jax.data.challenge.drawing import _divide_by_255, _mirrored, _rasterise, _smear
from lga_jax.data.challenge.random_ints import RandomInts
from lga_jax.data.challenge.scene import Vehicle
from lga_jax.data.challenge.source import Challenge
from lga_jax.data.challenge.vehicles import Appearance, vehicle_shape

APPEARANCES = (Appearance(), Appearance(variance=3), Appearance(part_percent=45, part_grey=240, stubs=3))


def extent(mask):
    """(x1, y1, x2, y2) of what is not zero."""
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def only_part(shape):
    """The same shape with the polygons of its part alone; they come last."""
    first = int(np.argmax(shape.of_part))
    kept = [i for i, end in enumerate(shape.ends) if end > first]
    ends = [shape.ends[i] - first for i in kept]
    return shape._replace(points=shape.points[first:], ends=ends, colours=[shape.colours[i] for i in kept])


@pytest.mark.parametrize("appearance", APPEARANCES)
@pytest.mark.parametrize("label", range(8))
def test_boxes_fit_the_drawn_pixels(label, appearance):
    for seed in range(3):
        vehicle = Vehicle(vehicle_shape(RandomInts(seed, 0, 0), label, 60 + 37 * seed, appearance), 5 + seed, 8)
        _, cover = _rasterise(vehicle, 0, 0, 160, 160)
        left, top, right, bottom = vehicle.box
        assert max(right - left, bottom - top) == 60 + 37 * seed
        assert extent(cover[..., 0]) == (left // 2, top // 2, -(-right // 2), -(-bottom // 2))
        _, cover = _rasterise(vehicle._replace(shape=only_part(vehicle.shape)), 0, 0, 160, 160)
        left, top, right, bottom = vehicle.part_box
        assert extent(cover[..., 0]) == (left // 2, top // 2, -(-right // 2), -(-bottom // 2))


def over_objects(source):
    """Pixels of the vehicles, image by image: what a challenge hides must differ there."""
    for index, record in enumerate(source.records):
        image = source.image(index).astype(int)
        yield [image[int(y1) : int(y2), int(x1) : int(x2)] for x1, y1, x2, y2 in record.boxes_original]


@pytest.mark.parametrize("name", ["complex_environment", "motion_blur", "camouflage"])
def test_effects_on_pixels_grow_with_severity_and_leave_the_boxes(name):
    plain = Challenge(8, 9, (80, 80), ("plain",), max_objects=2)
    changes = []
    for severity in (1, 2, 3):
        hard = Challenge(8, 9, (80, 80), (name,), (severity,), max_objects=2)
        for with_effect, without in zip(hard.records, plain.records, strict=True):
            np.testing.assert_array_equal(with_effect.boxes_original, without.boxes_original)
        pairs = zip(over_objects(hard), over_objects(plain), strict=True)
        changes.append(np.mean([np.abs(a - b).mean() for both in pairs for a, b in zip(*both, strict=True)]))
    assert 3 < changes[0] < 0.85 * changes[1]
    assert changes[1] < 0.95 * changes[2]


def test_camouflage_leaves_no_contrast_with_the_ground():
    def contrast(name):
        source = Challenge(12, 9, (80, 80), (name,), (3,), max_objects=1)
        grounds = [source.image(index).mean((0, 1)) for index in range(12)]
        pairs = zip(over_objects(source), grounds, strict=True)
        return np.mean([np.abs(vehicle.mean((0, 1)) - ground).mean() for (vehicle,), ground in pairs])

    assert contrast("camouflage") < 0.6 * contrast("plain")


def test_integer_arithmetic_of_the_blends():
    products = np.arange(256, dtype=np.uint16)[:, None] * np.arange(256, dtype=np.uint16)
    np.testing.assert_array_equal(_divide_by_255(products), np.rint(products / 255))
    np.testing.assert_array_equal(_mirrored(np.arange(-3, 7), 4), [3, 2, 1, 0, 1, 2, 3, 2, 1, 0])


def test_a_smear_keeps_the_middle_and_the_sum():
    plane = np.zeros((21, 41, 1), np.uint8)
    plane[8:13, 15:26] = 160
    smeared = _smear(plane, 8, 0)[..., 0].astype(int)
    assert smeared[10, 20] < 160
    np.testing.assert_allclose(smeared.sum(), plane.sum(), rtol=0.02)
    columns = np.arange(41) * smeared.sum(0)
    np.testing.assert_allclose(columns.sum() / smeared.sum(), 20, atol=0.1)
    assert extent(smeared)[1::2] == (8, 13)
