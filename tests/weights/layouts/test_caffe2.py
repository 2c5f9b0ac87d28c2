"""Names as R-50.pkl and R-101.pkl have them, and as Detectron's own files do."""

import pytest

from lga_jax.weights.layouts import Slot
from lga_jax.weights.layouts.caffe2 import caffe2_resnet


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("params/backbone/conv1/kernel", ["conv1_w"]),
        ("params/backbone/norm1/bn/scale", ["res_conv1_bn_s", "res_conv1_bn_gamma"]),
        ("params/backbone/layer1_0/conv1/kernel", ["res2_0_branch2a_w"]),
        ("params/backbone/layer1_0/norm3/bn/bias", ["res2_0_branch2c_bn_b", "res2_0_branch2c_bn_beta"]),
        ("params/backbone/layer2_0/shortcut_conv/kernel", ["res3_0_branch1_w"]),
        (
            "batch_stats/backbone/layer2_0/shortcut_norm/bn/var",
            ["res3_0_branch1_bn_riv", "res3_0_branch1_bn_running_var"],
        ),
    ],
)
def test_a_resnet(key, names):
    layout = caffe2_resnet()
    assert layout.names(Slot.of(key)) == names
    assert all(layout.plain.match(name) for name in names)


def test_it_sees_whole_blue_green_red_pixels_and_biases_beside_norms_are_idle():
    layout = caffe2_resnet()
    assert layout.pixels == "caffe"
    assert layout.idle.match("res2_0_branch2a_b") and not layout.idle.match("res2_0_branch2a_bn_b")
    assert layout.ignored.match("conv1_b") and not layout.ignored.match("conv1_w")
