"""Vehicles: classes differ in one part, which a challenge makes alike or moves."""

import numpy as np

from lga_jax.data.challenge.random_ints import RandomInts
from lga_jax.data.challenge.vehicles import CLASS_NAMES, Appearance, vehicle_shape


def only_part(shape):
    """The same shape with the polygons of its part alone; they come last."""
    first = int(np.argmax(shape.of_part))
    kept = [i for i, end in enumerate(shape.ends) if end > first]
    ends = [shape.ends[i] - first for i in kept]
    return shape._replace(points=shape.points[first:], ends=ends, colours=[shape.colours[i] for i in kept])


def test_classes_share_the_chassis_and_differ_in_the_part():
    def outline(label, of_part):
        shape = vehicle_shape(RandomInts(4, 0, 0), label, 200, Appearance())
        return [
            colour for colour, end in zip(shape.colours, shape.ends, strict=True) if shape.of_part[end - 1] == of_part
        ]

    chassis = [outline(label, False) for label in range(8)]
    assert all(colours == chassis[0] for colours in chassis)
    assert len({tuple(outline(label, True)) for label in range(8)}) == 8


def test_similar_classes_have_shrinking_parts_of_one_colour():
    sizes, spreads = [], []
    for appearance in (
        Appearance(),
        Appearance(part_percent=85, part_grey=80),
        Appearance(part_percent=45, part_grey=240),
    ):
        shapes = [vehicle_shape(RandomInts(2, 0, 0), label, 300, appearance) for label in range(8)]
        sizes.append(np.mean([np.prod(np.ptp(shape.points[shape.of_part], 0)) for shape in shapes]))
        spreads.append(np.std([only_part(shape).colours[-1] for shape in shapes], 0).mean())
    assert sizes[2] < sizes[1] < sizes[0]
    assert spreads[1] < spreads[0]
    assert spreads[2] < 0.4 * spreads[1]


def test_variance_spreads_colour_and_place_of_a_class():
    def spread(variance):
        shapes = [vehicle_shape(RandomInts(seed, 0, 0), 7, 300, Appearance(variance=variance)) for seed in range(60)]
        colours = [only_part(shape).colours[1] for shape in shapes]
        places = [shape.points[shape.of_part].mean(0)[1] / shape.points.max(0)[1] for shape in shapes]
        return np.std(colours, 0).mean(), np.std(places)

    spreads = np.array([spread(variance) for variance in range(4)])
    assert (spreads[3] > 2 * spreads[0]).all()
    assert spreads[1, 0] > 2 * spreads[0, 0]


def test_the_longer_side_is_as_long_as_asked_and_begins_at_zero():
    for label, size in ((0, 60), (3, 97), (7, 200)):
        for seed in range(5):
            points = vehicle_shape(RandomInts(seed, 0, 0), label, size, Appearance(variance=3)).points
            assert points.min(0).tolist() == [0, 0]
            assert points.max() + 1 == size


def test_a_shape_depends_on_its_random_numbers_alone():
    first, again, other = (vehicle_shape(RandomInts(seed, 0, 0), 2, 100, Appearance()) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.points, again.points)
    assert first.points.shape != other.points.shape or (first.points != other.points).any()
    assert first.label == 2
    assert len(CLASS_NAMES) == len(set(CLASS_NAMES)) == 8
