"""What the benchmark of the detector family trains."""

import argparse

from benchmarks import detector_family
from lga_jax.recipe import check, differences


def test_the_detectors_differ_in_their_own_sections_alone():
    args = argparse.Namespace(data="data", convnext="", quick=False)
    kinds = {kind: check(detector_family.recipe(args, "neu_det", kind)) for kind in detector_family.KINDS}
    cascade, convnext = (set(differences(kinds["none"], kinds[kind])) for kind in ("cascade", "convnext"))
    assert {key.rsplit(".", 1)[0] for key in cascade} == {"model.cascade", "model.box_head"}
    assert len(kinds["cascade"].model.cascade.attentions) == 2
    backbone = {key for key in convnext if key.startswith("model.backbone.")}
    assert convnext - backbone == {"model.pixel_mean", "model.pixel_std", "model.init_from"}
    assert kinds["convnext"].model.backbone.name == "convnext"
