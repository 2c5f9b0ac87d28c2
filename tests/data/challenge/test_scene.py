"""Where vehicles stand, and which challenges the images of a set carry."""

import itertools

import numpy as np
import pytest

from lga_jax.data.challenge.scene import CHALLENGES, PLAIN, Mixture, boxes_in_pixels, make_scene
from lga_jax.data.challenge.source import Challenge


def area(boxes):
    return np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)


@pytest.fixture(scope="module")
def mixed():
    return Challenge(150, seed=3, image_hw=(128, 160))


def test_boxes_lie_in_the_image_and_parts_in_their_boxes(mixed):
    for record, parts in zip(mixed.records, mixed.parts, strict=True):
        boxes = record.boxes_original
        assert 1 <= len(boxes) == len(parts) == len(record.labels) == len(record.crowd)
        assert (boxes >= 0).all()
        assert (boxes <= (record.width, record.height) * 2).all()
        assert (parts[:, :2] >= boxes[:, :2]).all()
        assert (parts[:, 2:] <= boxes[:, 2:]).all()
        assert (area(parts) > 0).all()
        assert not record.crowd.any()


def test_vehicles_hardly_overlap_and_never_hide_a_part(mixed):
    for record, parts in zip(mixed.records, mixed.parts, strict=True):
        boxes = record.boxes_original
        for i, j in itertools.combinations(range(len(boxes)), 2):  # j stands in front of i
            side = np.minimum(boxes[i, 2:], boxes[j, 2:]) - np.maximum(boxes[i, :2], boxes[j, :2])
            assert np.prod(np.maximum(side, 0)) <= 0.08 * min(area(boxes[[i, j]]))
            side = np.minimum(parts[i, 2:], boxes[j, 2:]) - np.maximum(parts[i, :2], boxes[j, :2])
            assert (side <= 0).any()


def test_the_mixture_is_even(mixed):
    counts = {name: sum(entry[0] == name for entry in mixed.challenges) for name in CHALLENGES}
    assert min(counts.values()) > 150 / 7 * 0.5
    assert all((severity == 0) == (name == "plain") for name, severity in mixed.challenges)
    assert {severity for _, severity in mixed.challenges} == {0, 1, 2, 3}
    assert set(np.concatenate([record.labels for record in mixed.records])) == set(range(8))
    assert {len(record.labels) for record in mixed.records} == {1, 2, 3, 4}
    only = Challenge(20, 3, challenges=["scale", "plain"], severities=[2], max_objects=1)
    assert set(only.challenges) == {("scale", 2), ("plain", 0)}
    assert only.report[0] == "challenge set, seed 3: 20 images, 20 vehicles"


def test_plain_parts_are_a_small_share_of_vehicles_of_the_stated_size():
    plain = Challenge(60, 11, challenges=("plain",))
    boxes = np.concatenate([record.boxes_original for record in plain.records])
    longer = (boxes[:, 2:] - boxes[:, :2]).max(1)
    assert longer.min() >= 31
    assert longer.max() <= 90
    share = area(np.concatenate(plain.parts)) / area(boxes)
    assert 0.1 < share.mean() < 0.22


def test_scale_moves_away_from_the_usual_sizes():
    for severity, far, near in ((1, 34, 89), (3, 16, 121)):
        source = Challenge(60, 1, challenges=("scale",), severities=(severity,))
        boxes = np.concatenate([record.boxes_original for record in source.records])
        longer = (boxes[:, 2:] - boxes[:, :2]).max(1)
        assert ((longer <= far) | (longer >= near)).all()
        assert 0 < (longer >= near).mean() < 0.4


def _scenes(challenge: str) -> list:
    return [make_scene(5, index, Mixture((128, 160), (challenge,), (2,), 1, 4)) for index in range(20)]


def test_a_challenge_that_changes_no_size_keeps_the_layout():
    """The same vehicles at the same places, whatever is laid over them: pairs of sets differ in the challenge alone."""
    plain = _scenes(PLAIN)
    for name in ("complex_environment", "motion_blur", "camouflage"):
        for scene, other in zip(plain, _scenes(name), strict=True):
            assert [vehicle.box for vehicle in scene.vehicles] == [vehicle.box for vehicle in other.vehicles]
            assert (scene.severity, other.severity, other.challenge) == (0, 2, name)
    assert any(
        [vehicle.box for vehicle in scene.vehicles] != [vehicle.box for vehicle in other.vehicles]
        for scene, other in zip(plain, _scenes("scale"), strict=True)
    )


def test_boxes_are_halved_to_pixels():
    boxes = boxes_in_pixels([(0, 1, 5, 8)])
    assert boxes.tolist() == [[0, 0.5, 2.5, 4]] and boxes.dtype == np.float32
    assert boxes_in_pixels([]).shape == (0, 4)
