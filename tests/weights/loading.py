"""Loading state dicts into variables of tiny detectors whose values tell where they stand."""

import functools

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from lga_jax.errors import UserError
from lga_jax.models.build import build_detector, init_variables
from lga_jax.weights.files import Weights
from lga_jax.weights.load import load_pretrained
from tests.models import tiny
from tests.weights import foreign

CLASSES = ("cat", "dog", "bus")
ABC = ("a", "b", "c")

# Changes of the tiny detector's config.
FROZEN = {"backbone.norm": "frozen_bn"}
CAFFE = FROZEN | {"pixel_std": (1.0, 1.0, 1.0), "backbone.stride_in_1x1": True}
COCO_ANCHORS = {"anchors.sizes": (32, 64, 128, 256, 512)}
V1 = FROZEN | COCO_ANCHORS | {"attention": "none"}
V2 = COCO_ANCHORS | {
    "attention": "none",
    "backbone.norm": "bn",
    "fpn.norm": "bn",
    "rpn.num_convs": 2,
    "box_head.num_convs": 4,
    "box_head.num_fcs": 1,
    "box_head.norm": "bn",
}
_WITHOUT_SHAPE = ("pixel_mean", "pixel_std", "backbone.stride_in_1x1", "backbone.norm_eps")
STAYS = 1000.0  # initial values are at least this, loaded ones are small


def model(changes):
    config = tiny.model_config()
    config.update_from_flattened_dict(changes)
    return config


def shapes(changes, num_classes):
    return _shapes(tuple(item for item in changes.items() if item[0] not in _WITHOUT_SHAPE), num_classes)


@functools.cache
def _shapes(changes, num_classes):
    variables = jax.eval_shape(lambda: init_variables(build_detector(model(dict(changes)), num_classes), 0))
    return flatten_dict(variables, sep="/")


def initial(changes, num_classes):
    values = {
        key: STAYS + i + np.arange(leaf.size, dtype=np.float32).reshape(leaf.shape) / leaf.size
        for i, (key, leaf) in enumerate(shapes(changes, num_classes).items())
    }
    return as_variables(values)


def as_variables(values):
    """The tree of arrays by their keys; both collections are there, as init_variables has them."""
    return {"params": {}, "batch_stats": {}} | unflatten_dict(values, sep="/")


def load(arrays, changes, names=CLASSES, strict=True, exact=False, where="w", **about):
    """Variables and report; `about` is what the file says of itself."""
    config = model(changes).to_dict() | {"init_strict": strict}
    return load_pretrained(Weights(where, arrays, **about), initial(changes, len(names)), names, config, exact)


def refused(arrays, changes, message, names=CLASSES, strict=False, **about):
    with pytest.raises(UserError, match=message) as caught:
        load(arrays, changes, names, strict, **about)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def at(variables, key):
    return np.asarray(functools.reduce(lambda tree, name: tree[name], key.split("/"), variables))


def as_torch(variables, key):
    """A convolution's kernel with the axes of other projects."""
    return at(variables, key).transpose(3, 2, 0, 1)


def without(arrays, *endings):
    return {name: value for name, value in arrays.items() if not name.endswith(endings)}


def own(changes):
    """A checkpoint of ours with classes ABC: random variables of a model, and what its manifest says."""
    random = np.random.default_rng(0)
    leaves = shapes(changes, len(ABC)).items()
    arrays = {key: random.uniform(0.5, 1.5, leaf.shape).astype(np.float32) for key, leaf in leaves}
    return arrays, {"model": model(changes).to_dict(), "class_names": ABC}


# What torchvision computes, of either version.
COMPUTES = {"anchors.rounded": True, "anchors.fixed_stride": False, "roi_align.aligned": False}
_SIZES = {
    "backbone.width": 64,
    "fpn.channels": 256,
    "box_head.hidden": 1024,
    **COMPUTES,
}
EXPORTABLE = {1: V1 | _SIZES, 2: V2 | _SIZES | {"backbone.depth": 50}}


@functools.cache
def export_source(version):
    """A state dict of torchvision in its own sizes."""
    depth = EXPORTABLE[version].get("backbone.depth", 18)
    return foreign.torchvision_detector(version, depth, width=64, channels=256, hidden=1024)


@functools.cache
def export_variables(version):
    """The same as ours."""
    return load(export_source(version), EXPORTABLE[version])[0]
