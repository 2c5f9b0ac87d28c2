import pytest

from lga_jax.recipe.keys import KEYS
from lga_jax.recipe.nearest import did_you_mean, nearest_keys


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("batchsize", ["batch_size"]),
        ("optim.lrr", ["optim.lr"]),
        ("optm.lr", ["optim.lr"]),
        ("lr", ["optim.lr"]),
        ("optim.learning_rate", ["optim.lr"]),
        ("epochs", ["num_steps"]),
        ("nms_iou", ["model.proposals.nms_iou", "inference.nms_iou"]),
        ("inference.proposals.nms_iou", ["inference.nms_iou"]),
        ("model.lga.num_mask", ["model.lga.num_masks"]),
        ("milestone", ["optim.milestones"]),
        ("optim.zzzz", []),
    ],
)
def test_which_key_is_meant(name, keys):
    assert nearest_keys(name, KEYS) == keys


def test_the_remedy_names_them():
    assert did_you_mean(["a", "b"], "look there") == "did you mean a or b?"
    assert did_you_mean([], "look there") == "look there"
