"""The list of public weights: recipes that fit the files, names that contain the digests, commands that run."""

import hashlib
import re
import shlex

import jax
import numpy as np
import pytest

from lga_jax.errors import UserError
from lga_jax.models.build import build_detector, init_variables
from lga_jax.recipe import check, load, names, override
from lga_jax.weights.files import Weights
from lga_jax.weights.load import load_pretrained
from lga_jax.weights.zoo import BACKBONES, DETECTORS, check_file, find_detector, shell
from tests.weights import foreign

SMALL = {
    "model.backbone.depth": "18",
    "model.backbone.width": "8",
    "model.fpn.channels": "16",
    "model.box_head.hidden": "32",
    "model.mask_head.channels": "8",
    "model.mask_head.num_convs": "1",
}


def small_file(name):
    """The arrays of such a file, with fewer channels. Detectron2 adds its pixel values: BGR, not divided."""
    if name.startswith("torchvision"):
        version = 2 if name.endswith("v2") else 1
        masks = foreign.torchvision_mask_head(version) if "mask" in name else {}
        return foreign.torchvision_detector(version) | masks
    arrays = foreign.detectron2_detector()
    if "cascade" in name:
        arrays = foreign.detectron2_cascade(3) | foreign.detectron2_mask_head()
    pixels = {"pixel_mean": np.array([103.53, 116.28, 123.675]), "pixel_std": np.ones(3)}
    return arrays | {key: value.astype(np.float32)[:, None, None] for key, value in pixels.items()}


def recipe(entry):
    """The recipe with the values of the entry."""
    config = load(entry.recipe)
    override(config, dict(entry.settings))
    return config


# One of each kind: building the shapes of a detector takes seconds.
@pytest.mark.parametrize(
    "name", ["torchvision-v1", "torchvision-mask-v2", "detectron2-r50-3x", "detectron2-cascade-r50-3x"]
)
def test_the_recipe_is_that_of_the_file(name):
    entry = DETECTORS[name]
    config = recipe(entry)
    override(config, SMALL)
    model = check(config).model
    detector = build_detector(model, 3)
    shapes = jax.eval_shape(lambda: init_variables(detector, 0))
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    weights = Weights(entry.file, small_file(name))
    _, report = load_pretrained(weights, variables, ("cat", "dog", "bus"), model.to_dict(), exact=True)
    assert "left at initial values: none" in report


@pytest.mark.parametrize("name", DETECTORS)
def test_names_contain_the_digest_and_commands_the_recipe(name):
    entry = DETECTORS[name]
    algorithm, digits = entry.digest.split(":")
    assert check(recipe(entry)).model.backbone.depth == (101 if "r101" in name else 50)
    assert re.search(rf"[-_]{digits}\.(pth|pkl)$", entry.file) and algorithm in hashlib.algorithms_guaranteed
    importing, scoring = entry.commands("runs/x", "folder")
    assert importing[:4] == ["lga_jax", "import-weights", "--config", entry.recipe]
    assert f"folder/{entry.file}" in importing and scoring[1] == "eval"
    assert shlex.split(shell(importing)) == importing


def test_backbones_have_recipes_of_their_version():
    assert {entry.recipe for entry in BACKBONES} <= set(names())
    versions = {
        entry.place: check(recipe(entry)).model.backbone.version for entry in BACKBONES if "swin" in entry.place
    }
    assert all(version == (2 if "v2" in place else 1) for place, version in versions.items()) and len(versions) == 4


def test_a_file_is_compared_with_its_digest(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"content")
    digest = hashlib.md5(b"content").hexdigest()[:6]
    entry = DETECTORS["detectron2-r50-1x"]
    check_file(entry._replace(digest=f"md5:{digest}"), path)
    with pytest.raises(UserError) as raised:
        check_file(entry, path)
    assert raised.value.subject == f"weights {path}"


def test_an_unknown_name():
    with pytest.raises(UserError) as raised:
        find_detector("yolo")
    assert raised.value.subject == "detector yolo"
