import numpy as np
import pytest

from lga_jax.errors import UserError
from lga_jax.models.backbones.resnet import BASIC, BOTTLENECK
from lga_jax.weights.families.resnet import examine_resnet, found_blocks
from lga_jax.weights.files import Weights
from lga_jax.weights.layouts.torchvision import torchvision_resnet
from tests.weights import foreign

MODEL = {"backbone": {"depth": 18}}


def examine(arrays, model=MODEL):
    return examine_resnet(torchvision_resnet(), Weights("w", arrays), model)


@pytest.mark.parametrize(("depth", "kind"), [(18, BASIC), (50, BOTTLENECK)])
def test_the_depth_is_counted(depth, kind):
    arrays = foreign.resnet(depth)
    blocks = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}[depth]
    assert found_blocks(torchvision_resnet(), arrays) == (kind, blocks)
    irrelevant = {"backbone.stride_in_1x1"} if kind == BASIC else set()
    assert examine(arrays) == (f"ResNet-{depth}", {"backbone.depth": depth}, irrelevant)


def test_a_beginning_of_the_models_network_fits_and_another_part_does_not():
    begins = {name: value for name, value in foreign.resnet(18).items() if not name.startswith(("layer3", "layer4"))}
    assert examine(begins)[:2] == ("a part with 4 blocks", {})
    with pytest.raises(UserError) as caught:
        examine(begins, {"backbone": {"depth": 50}})
    assert caught.value.subject == "weights w" and "(2, 2, 0, 0) basic blocks" in caught.value.found


@pytest.mark.parametrize(
    ("name", "shape"), [("layer1.0.se.fc1.weight", (4, 8)), ("layer1.0.conv2.weight", (8, 4, 3, 3))]
)
def test_variants_are_refused(name, shape):
    with pytest.raises(UserError) as caught:
        examine(foreign.resnet(18) | {name: np.ones(shape, np.float32)})
    assert caught.value.expected == "a plain ResNet" and name in caught.value.found
