import re

from lga_jax.weights.layouts.layout import (
    NOTHING,
    TORCH_LEAVES,
    Layout,
    Slot,
    count_modules,
    found_norm,
    namer,
    place,
)


def layout():
    """Names of box heads as 'head.MODULE'."""
    names = namer({"box_head": lambda module: [f"head.{module}"]}, TORCH_LEAVES)
    return Layout("a test", ("box_head",), names, NOTHING, NOTHING, re.compile("skip"))


def test_a_slot_is_a_key_taken_apart():
    key = "batch_stats/backbone/layer2_0/norm1/bn/mean"
    assert Slot.of(key) == Slot(key, "backbone", "layer2_0/norm1", "bn", "mean")
    assert Slot.of("params/rpn/conv1/kernel")[1:] == ("rpn", "conv1", "", "kernel")
    assert Slot.of("params/backbone/norm1/gn/scale")[1:] == ("backbone", "norm1", "gn", "scale")


def test_names_are_of_a_part_and_never_of_group_norm():
    assert layout().names(Slot.of("params/box_head/fc1/kernel")) == ["head.fc1.weight"]
    assert layout().names(Slot.of("params/rpn/conv1/kernel")) == []
    assert layout().names(Slot.of("params/box_head/conv1_norm/gn/scale")) == []


def test_places_in_a_resnet():
    assert place("layer2_10/conv1") == (2, 10, "conv1")
    assert place("conv1") == (0, 0, "conv1")


def test_modules_are_counted_from_one_without_a_gap():
    assert count_modules(layout(), {"head.fc1.weight", "head.fc2.weight", "head.fc4.weight"}, "box_head", "fc") == 2
    assert count_modules(layout(), {"head.fc2.weight"}, "box_head", "fc") == 0


def test_the_kind_of_a_norm_is_told_from_its_arrays():
    affine = {"head.n.weight", "head.n.bias"}
    assert found_norm(layout(), affine | {"head.n.running_var"}, "box_head", "n") == "bn"
    assert found_norm(layout(), affine, "box_head", "n") == "affine"
    assert found_norm(layout(), set(), "box_head", "n") == "none"
