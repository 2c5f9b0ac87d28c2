"""Questions about the arrays of a weight file."""

import numpy as np

from lga_jax.weights.families.arrays import refuse_variants, size_of
from lga_jax.weights.files import Weights
from lga_jax.weights.layouts.vit import timm_vit
from tests.faults import refused

LAYOUT = timm_vit(False)
PLAIN = {"blocks.1.mlp.fc2.bias": np.zeros(8, np.float32), "head.bias": np.zeros(3, np.float32)}
EXPECTED = dict(expected="a plain ViT", about="from a variant", remedy="use others")


def test_sizes_of_arrays_by_our_names():
    weights = Weights("file", PLAIN, None)
    assert [size_of(LAYOUT, weights, "layer1_1/shrink/bias", axis) for axis in (0, 1)] == [8, 0]
    assert size_of(LAYOUT, weights, "layer1_0/shrink/bias", 0) == 0


def test_an_array_that_the_plain_network_lacks_is_named():
    refuse_variants(LAYOUT, Weights("file", PLAIN, None), **EXPECTED)
    varied = PLAIN | {"blocks.1.ls1.gamma": np.zeros(8, np.float32)}
    with refused("^weights file$", "blocks.1.ls1.gamma, from a variant"):
        refuse_variants(LAYOUT, Weights("file", varied, None), **EXPECTED)
