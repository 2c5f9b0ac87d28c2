"""Which configs may score a checkpoint."""

import json

import pytest

from configs.coco import get_config
from lga_jax.data.challenge import Challenge
from lga_jax.errors import UserError
from lga_jax.evaluation.score import check_model, score_model

MANIFEST = {"config": json.loads(get_config().to_json())}


def changed(**changes):
    config = get_config()
    config.update_from_flattened_dict(changes)
    return config.model


def test_the_same_model_is_welcome():
    check_model(MANIFEST, get_config().model, "here")


@pytest.mark.parametrize(
    "change",
    [
        {"model.dtype": "float32"},
        {"model.init_from": "weights.npz"},
        {"model.proposals.post_nms_test": 300},
        {"model.roi_sampling.num_samples": 64},
        {"model.backbone.frozen_stages": 0},
        {"model.cbam.reduction": 4},  # of a block that is not in use
    ],
)
def test_what_changes_no_parameter_and_no_meaning_may_differ(change):
    check_model(MANIFEST, changed(**change), "here")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model.attention": "none"}, "model.attention 'lga' there, 'none' here"),
        ({"model.lga.num_masks": 2}, "model.lga.num_masks 4 there, 2 here"),
        ({"model.backbone.depth": 101}, "model.backbone.depth 50 there, 101 here"),
        ({"model.anchors.sizes": (16, 32, 64, 128, 256)}, "model.anchors.sizes"),
        ({"model.pixel_mean": (0.0, 0.0, 0.0)}, "model.pixel_mean"),
        ({"model.roi_align.aligned": False}, "model.roi_align.aligned True there, False here"),
    ],
)
def test_another_model_is_refused_by_the_key_that_differs(change, words):
    with pytest.raises(UserError, match="^runs/a, step 5: expected a checkpoint of the config's model") as caught:
        check_model(MANIFEST, changed(**change), "runs/a, step 5")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_scored(tmp_path, monkeypatch):
    (tmp_path / "eval_7").write_text("a file")
    monkeypatch.setattr("lga_jax.evaluation.score.evaluate", lambda *_, **__: pytest.fail("scored"))
    with pytest.raises(UserError, match="eval_7: expected a folder that can be written, found: File exists"):
        score_model(get_config(), Challenge(num_images=1, seed=0), {}, tmp_path / "eval_7")
