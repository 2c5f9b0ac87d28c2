"""The structs pass through jax as trees, and their docstrings use the letters of the legend."""

import inspect
import re

import jax
import numpy as np
import pytest

from lga_jax import structs
from lga_jax.structs import Batch, Targets

STRUCTS = [value for _, value in inspect.getmembers(structs, inspect.isclass) if hasattr(value, "_fields")]


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_a_struct_is_a_tree_of_its_fields(struct):
    values = struct(*range(len(struct._fields)))
    doubled = jax.tree.map(lambda leaf: 2 * leaf, values)
    assert type(doubled) is struct
    assert list(doubled) == [2 * value for value in values]


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_every_letter_of_a_shape_stands_in_the_legend(struct):
    legend = set(re.findall(r"(?<=[ ]{2})([a-z])  (?=\w)", structs.__doc__))
    assert {"b", "h", "w", "a", "g", "r", "s", "c", "k", "m", "d"} <= legend
    shapes = [annotation.dim_str for annotation in _arrays(struct)]
    letters = {token.lstrip("*") for shape in shapes for token in shape.split()}
    assert {letter for letter in letters if re.fullmatch(r"[a-z]", letter)} <= legend


def _arrays(struct: type) -> list:
    annotations = struct.__annotations__.values()
    parts = [part for annotation in annotations for part in (annotation, *getattr(annotation, "__args__", ()))]
    return [part for part in parts if hasattr(part, "dim_str")]


def test_devices_are_put_before_the_images_of_a_device():
    targets = Targets(np.zeros((2, 3, 5, 4), np.float32), np.zeros((2, 3, 5), np.int32), np.zeros((2, 3, 5), bool))
    hw = np.zeros((2, 3, 2), np.float32)
    batch = Batch(np.zeros((2, 3, 8, 8, 3), np.uint8), hw, hw, targets, np.zeros((2, 3), np.int32))
    assert {leaf.shape[:2] for leaf in jax.tree.leaves(batch)} == {(2, 3)}
