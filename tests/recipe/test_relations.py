"""What the values of a recipe require of each other."""

import pytest

from lga_jax.recipe import check
from tests.recipe.faults import changed, faults

LATER_STAGE = dict(attentions="none", positive_ious=0.6, coder_scales=2.0, loss_weights=0.5)


@pytest.mark.parametrize(
    ("changes", "how", "key"),
    [
        ({"batch_size": 10}, dict(device_count=4), "batch_size"),
        ({"batch_size": 3}, dict(device_count=4), "batch_size"),
        ({"batch_size": 8, "images_at_once": 3}, dict(device_count=4), "images_at_once"),
        ({"batch_size": 8, "images_at_once": 3}, dict(), "images_at_once"),
        ({"batch_size": 8, "images_at_once": 1, "model.fpn.norm": "bn"}, dict(device_count=4), "images_at_once"),
        ({"batch_size": 4001}, dict(), "batch_size"),
        ({"losses.class_weights": (1, 2), "losses.balance_classes": True}, dict(), "losses.class_weights"),
        ({"eval_raw": True, "optim.ema_decay": 0.0}, dict(), "eval_raw"),
        ({"eval_losses": True, "model.fpn.norm": "bn"}, dict(), "eval_losses"),
        (
            {"early_stopping.patience": 2, "early_stopping.metric": "loss", "eval_every": 9},
            dict(),
            "early_stopping.metric",
        ),
        ({"early_stopping.patience": 2, "eval_every": 0}, dict(), "early_stopping.patience"),
        ({"data.long_edge": 159}, dict(), "data.long_edge"),
        ({"data.buckets": ((159, 400),), "data.eval_buckets": ((160, 160),)}, dict(), "data.buckets"),
        ({"data.eval_buckets": ((159, 400),)}, dict(), "data.eval_buckets"),
        ({"model.fpn.norm": "gn", "model.fpn.channels": 40}, dict(), "model.fpn.channels"),
        ({"model.attention": "cbam", "model.cbam.reduction": 97}, dict(), "model.cbam.reduction"),
        ({"model.attention": "non_local", "model.non_local.reduction": 97}, dict(), "model.non_local.reduction"),
        ({"model.cascade.attentions": ("lga",)}, dict(), "model.cascade.attentions"),
        ({"dynamic.window": 9, "losses.roi_box_beta": 0.0}, dict(), "losses.roi_box_beta"),
        ({"dynamic.window": 9, "losses.roi_box_beta": 1.0, "losses.roi_box": "giou"}, dict(), "losses.roi_box"),
        (
            {"dynamic.window": 9, "losses.roi_box_beta": 1.0}
            | {f"model.cascade.{key}": (one,) for key, one in LATER_STAGE.items()},
            dict(),
            "model.cascade.positive_ious",
        ),
        (
            {"eval_losses": True, "model.mask_head.enabled": True, "model.mask_head.norm": "bn"},
            dict(),
            "eval_losses",
        ),
        ({"model.backbone.frozen_stages": 1}, dict(new_run=True), "model.init_from"),
        ({"model.backbone.norm": "frozen_bn"}, dict(new_run=True), "model.init_from"),
        ({"model.init_strict": True}, dict(new_run=True), "model.init_strict"),
    ],
)
def test_values_that_do_not_go_together(changes, how, key):
    assert faults(changes=changes, **how).keys() == {key}


@pytest.mark.parametrize(
    ("changes", "how"),
    [
        ({"batch_size": 8, "images_at_once": 2}, dict(device_count=4)),
        ({"batch_size": 8, "images_at_once": 1}, dict(device_count=4)),
        ({"optim.schedule": "step", "optim.milestones": (60000, 80000)}, {}),  # a short try of a long recipe
        ({"data.scale_jitter": (0.1, 2.0), "data.short_edges": (800,)}, {}),
        ({"model.cbam.reduction": 97}, {}),  # attention is "lga"
        ({"eval_raw": True, "optim.ema_decay": 0.9}, {}),
        ({"early_stopping.metric": "loss"}, {}),  # patience is 0
        ({"early_stopping.patience": 2, "early_stopping.metric": "loss", "eval_losses": True, "eval_every": 9}, {}),
        ({"model.backbone.frozen_stages": 1, "model.init_from": "r18.npz"}, dict(new_run=True)),
        ({"model.backbone.frozen_stages": 1}, {}),  # evaluation of a run that had weights
        ({"model.fpn.channels": 40}, {}),
        ({"model.mask_head.enabled": True}, {}),
        ({"eval_losses": True, "model.mask_head.norm": "bn"}, {}),  # it is not enabled
    ],
)
def test_values_that_go_together(changes, how):
    check(changed("challenge", changes), **how)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_mask_head_needs_data_that_can_have_masks(mixed):
    boxes_only = dict(source="tfds", name="coco/2017", data_dir="sets", split="train", skip_empty=True)
    train = dict(source="mixed", parts={"a": boxes_only | dict(weight=1.0)}) if mixed else boxes_only
    changes = {"data.train": train, "model.mask_head.enabled": True}
    (fault,) = faults(changes=changes).values()
    assert fault.subject == "model.mask_head.enabled" and "tfds" in fault.expected
    check(changed("challenge", {"data.train": train}))


def test_the_nearest_batch_sizes_are_named():
    assert faults(changes={"batch_size": 10}, device_count=4)["batch_size"].remedy.endswith("8 or 12")
    assert faults(changes={"batch_size": 3}, device_count=4)["batch_size"].remedy.endswith("4")


def test_a_value_per_later_stage():
    found = faults(changes={"model.cascade.positive_ious": (0.6, 0.7), "model.cascade.coder_scales": (2.0,)})
    assert {key.removeprefix("model.cascade."): error.found for key, error in found.items()} == {
        "attentions": "0",
        "coder_scales": "1",
        "loss_weights": "0",
    }


OWN_BACKBONE = dict(own=("model.backbone",))


@pytest.mark.parametrize("sizes", [(16, 32), (16, 32, 64, 128), (8, 16, 32, 64, 128, 256)])
def test_a_backbone_of_the_caller_may_have_another_number_of_levels(sizes):
    assert len(check(changed("challenge", {"model.anchors.sizes": sizes}), **OWN_BACKBONE).model.anchors.sizes) == len(
        sizes
    )
    assert "5 sizes" in faults(changes={"model.anchors.sizes": sizes})["model.anchors.sizes"].expected


def test_proposals_are_limited_by_the_levels_of_the_callers_backbone():
    changes = {"model.anchors.sizes": (16, 32, 64), "model.proposals.pre_nms_train": 100}
    check(changed("challenge", {**changes, "model.proposals.post_nms_train": 300}), **OWN_BACKBONE)
    found = faults(changes={**changes, "model.proposals.post_nms_train": 301}, **OWN_BACKBONE)
    assert (
        found.keys() == {"model.proposals.post_nms_train"} and "300" in found["model.proposals.post_nms_train"].expected
    )
