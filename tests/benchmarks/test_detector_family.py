"""What the benchmark of the detector family trains."""

import argparse

from benchmarks import detector_family
from lga_jax.recipe import check, differences


def test_the_detectors_differ_in_their_own_sections_alone():
    args = argparse.Namespace(data="data", convnext="", quick=False)
    kinds = {kind: check(detector_family.recipe(args, "neu_det", kind)) for kind in detector_family.KINDS}
    cascade, convnext, mask = (set(differences(kinds["none"], kinds[kind])) for kind in ("cascade", "convnext", "mask"))
    assert mask == {f"model.mask_head.{key}" for key in ("enabled", "num_convs", "channels")}
    assert {key.rsplit(".", 1)[0] for key in cascade} == {"model.cascade", "model.box_head"}
    assert len(kinds["cascade"].model.cascade.attentions) == 2
    backbone = {key for key in convnext if key.startswith("model.backbone.")}
    assert convnext - backbone == {"model.pixel_mean", "model.pixel_std", "model.init_from"}
    assert kinds["convnext"].model.backbone.name == "convnext"


def test_the_set_with_masks_is_scored_on_the_images_of_its_training():
    args = argparse.Namespace(data="data", convnext="", quick=False)
    config = check(detector_family.recipe(args, "coco_tiny80", "mask"))
    assert config.data.train.annotations == config.data.eval.annotations
    assert config.data.train.root == config.data.eval.root == "data/coco_tiny80"
