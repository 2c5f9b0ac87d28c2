"""Fine-tuning from this project's own checkpoints: every norm, every list of classes."""

import jax
import numpy as np
import pytest

from lga_jax.weights.files import Weights
from lga_jax.weights.layouts import Slot, recognise
from lga_jax.weights.layouts.own import own_layout
from lga_jax.weights.load import load_pretrained
from tests.models import tiny
from tests.weights.loading import ABC, STAYS, as_variables, at, load, own

NORMS = ["gn", "bn", "frozen_bn"]


def lga(norm):
    return {"backbone.norm": norm, "attention": "lga"}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("names", [ABC, ("c", "new", "a", "b"), ("b",), ("x", "y", "z")])
def test_every_norm_and_class_list(norm, names):
    arrays, about = own(lga(norm))
    variables, report = load(arrays, lga(norm), names=names, strict=True, **about)
    assert set(variables) == {"params", "batch_stats"}
    assert bool(jax.tree.leaves(variables["batch_stats"])) == (norm != "gn")
    for key, value in arrays.items():
        if Slot.of(key).module not in ("classes", "deltas", "guide_classes"):
            np.testing.assert_array_equal(at(variables, key), value)
    bias = at(variables, "params/box_head/classes/bias")
    for row, name in enumerate(names):
        if name in ABC:
            assert bias[row] == arrays["params/box_head/classes/bias"][ABC.index(name)]
        else:
            assert bias[row] >= STAYS
    assert bias[-1] == arrays["params/box_head/classes/bias"][-1]  # background
    assert f"{len(set(names) & set(ABC))} of {len(names)} class rows by name" in report


def test_variables_without_statistics_keep_an_empty_collection():
    """With group norm there are none; a checkpoint and a training state have the collection all the same."""
    arrays, about = own(lga("gn"))
    variables, _ = load(arrays, lga("gn"), names=ABC, **about)
    assert variables["batch_stats"] == {}


def test_a_trained_norm_may_become_a_constant():
    arrays, about = own(lga("bn"))
    variables, _ = load(arrays, lga("frozen_bn"), names=ABC, class_names=ABC, model=about["model"])
    scale = arrays["params/backbone/norm1/bn/scale"]
    np.testing.assert_array_equal(at(variables, "batch_stats/backbone/norm1/bn/scale"), scale)


def test_parts_and_family_are_those_in_the_file():
    arrays, _ = own(lga("gn"))
    layout = recognise("w", arrays)
    assert layout.ours and layout.family == "resnet"
    assert layout.parts == ("backbone", "fpn", "rpn", "attention", "box_head")
    names = ["params/backbone/stem/kernel", "params/fpn/lateral2/kernel", "params/stages_1/box_head/fc1/kernel"]
    assert own_layout(names).parts == ("backbone", "fpn", "stages_1") and own_layout(names).family == ""


def test_later_stages_of_a_cascade_are_read_and_their_class_rows_found_by_name():
    arrays = {
        "params/backbone/conv1/kernel": np.ones((7, 7, 3, 8), np.float32),
        "params/box_head/classes/bias": np.float32([1, 2, 3, 4]),
        "params/stages_1/box_head/classes/bias": np.float32([5, 6, 7, 8]),
        "params/stages_1/box_head/fc1/bias": np.float32([9]),
    }
    start = as_variables({key: value[..., :3] if "classes" in key else 0 * value for key, value in arrays.items()})
    model = tiny.model_config(box_head={"num_fcs": 0}).to_dict()
    variables, _ = load_pretrained(Weights("w", arrays, class_names=ABC), start, ("c", "new"), model)
    second = variables["params"]["stages_1"]["box_head"]
    assert second["classes"]["bias"].tolist() == [7, 6, 8]  # c, what stood there, background
    assert second["fc1"]["bias"].tolist() == [9]
