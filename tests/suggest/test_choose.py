from typing import Any

import numpy as np
import pytest

from lga_jax.recipe import check, load
from lga_jax.suggest.choose import apply, choose
from lga_jax.suggest.machine import Machine
from lga_jax.suggest.statistics import measure
from tests.suggest.sets import CPU, GPU, Set


def _values(source: Set, machine: Machine = CPU) -> dict[str, Any]:
    found = choose(measure(source), machine)
    assert all(one.reason for one in found.choices)
    return {one.key: one.value for one in found.choices}


@pytest.mark.parametrize("machine", [CPU, GPU, GPU._replace(num_bytes=None), GPU._replace(num_bytes=4 * 2**30)])
@pytest.mark.parametrize(
    "source",
    [
        Set(),
        Set(num_images=1, hw=(20, 30), sides=(5, 9)),
        Set(num_images=3, hw=(3000, 200), sides=(2, 190)),
        Set(num_images=3000, hw=(1080, 1920), sides=(12, 900)),
        Set(num_images=20, hw=(480, 480), sides=(30,) * 400, names=tuple(map(str, range(400)))),
    ],
    ids=["usual", "one tiny image", "very high images", "many large images", "many objects"],
)
def test_what_is_suggested_is_a_recipe(source, machine):
    found = choose(measure(source), machine)
    config = load(found.base)
    apply(config, found.choices)
    check(config, device_count=machine.num_devices)


def test_small_objects_decide_the_size_of_images():
    assert _values(Set(sides=(37, 120)))["data.eval_short_edge"] == 256  # 37 x 256 / 480 = 20
    assert _values(Set(sides=(30, 120)))["data.eval_short_edge"] == 320
    assert _values(Set(sides=(200, 220)))["data.eval_short_edge"] == 224  # no smaller
    assert _values(Set(sides=(5, 120)))["data.eval_short_edge"] == 480  # no larger on a CPU
    assert _values(Set(sides=(5, 120)), GPU)["data.eval_short_edge"] == 800
    edges = _values(Set(sides=(30, 120)), GPU)["data.short_edges"]
    assert edges[-1] == 512 and edges[0] == 384 and len(edges) == 5


def test_objects_that_stay_small_in_large_images_are_cropped():
    values = _values(Set(hw=(3000, 4000), sides=(20, 60)))
    assert values["data.object_crop"] == 0.7 and values["data.object_crop_sides"] == (480, 960)
    assert "data.object_crop" not in _values(Set())


def test_the_batch_fits_into_the_memory_and_the_set():
    assert _values(Set())["batch_size"] == 4 and _values(Set(), GPU)["batch_size"] == 8
    assert _values(Set(num_images=3))["batch_size"] == 3
    assert _values(Set(), CPU._replace(num_bytes=2**30))["batch_size"] == 2
    assert _values(Set(), GPU._replace(num_devices=16))["batch_size"] == 16
    assert _values(Set(), GPU._replace(num_bytes=4 * 2**30))["model.backbone.depth"] == 18


def test_small_sets_are_seen_more_often():
    for machine in (CPU, GPU):
        epochs = []
        for num_images in (50, 500, 5000):
            values = _values(Set(num_images=num_images), machine)
            epochs.append(values["num_steps"] * values["batch_size"] / num_images)
        assert epochs[0] > epochs[1] > epochs[2] >= 6
        assert epochs[0] <= 61


def test_names_with_left_and_right_forbid_flips():
    assert _values(Set(names=("Left shoe", "hat")))["data.flip_probability"] == 0
    assert "data.flip_probability" not in _values(Set(names=("leftover", "bright")))


def test_images_of_rare_classes_are_repeated():
    source = Set(num_images=100)
    one = source.records[0]
    common = one._replace(boxes_original=one.boxes_original[:1], labels=one.labels[:1], crowd=np.zeros(1, bool))
    source.records[2:] = [common] * 98
    assert _values(source)["data.repeat_threshold"] == 0.05
    assert "data.repeat_threshold" not in _values(Set())


def test_full_images_get_more_detections():
    values = _values(Set(sides=(30,) * 150, names=tuple(map(str, range(150)))))
    assert values["inference.max_detections"] == 250
    assert "inference.max_detections" not in _values(Set())
