"""The questions asked before anything is restored."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import challenge, coco
from lga_jax.checkpoints.manifest import (
    FORMAT,
    OWN_DETECTOR,
    check_config,
    check_model,
    check_names,
    check_parameters,
    check_whole,
    make_manifest,
    recipe_of,
    sealed,
)
from lga_jax.data.source import open_source
from lga_jax.errors import UserError
from lga_jax.recipe import flatten
from tests.faults import refused

PARAMS = {"rpn": {"kernel": np.zeros((3, 3, 4, 4), np.float32)}, "roi": {"bias": np.zeros(5, np.float32)}}


def _config(**changes):
    config = {"num_steps": 100, "log_every": 5, "optim": {"schedule": "step", "lr": 0.1}, "data": {"num_workers": 2}}
    for key, value in changes.items():
        *parents, name = key.split("__")
        at = config
        for parent in parents:
            at = at[parent]
        at[name] = value
    return config


def _check(config, theirs=None, step=50):
    check_config({"config": theirs or _config()}, config, step, "here")


def test_manifest_of_a_run():
    config = challenge.get_config()
    config.data.train.num_images = config.data.eval.num_images = 2
    sources = [open_source(**config.data[part]) for part in ("train", "eval")]
    manifest = make_manifest(config, *sources, PARAMS)
    assert manifest["class_names"] == list(sources[0].class_names)
    assert len(set(manifest["category_ids"])) == len(manifest["class_names"])
    assert manifest["config"]["data"]["buckets"] == [[160, 160]]
    assert manifest["parameters"]["rpn/kernel"] == [[3, 3, 4, 4], "float32"]


def test_keys_that_move_no_parameter_may_change():
    _check(_config(log_every=7, data__num_workers=1))
    parts = {"mine": {"root": "there", "weight": 2.0}}
    moved = {"mine": {"root": "elsewhere", "weight": 2.0}}
    _check(_config(data__train={"parts": moved}), _config(data__train={"parts": parts}))
    heavier = {"mine": {"root": "there", "weight": 3.0}}
    with pytest.raises(UserError, match=r"data.train.parts.mine.weight 2.0 in the checkpoint, 3.0 in the recipe"):
        _check(_config(data__train={"parts": heavier}), _config(data__train={"parts": parts}))


def test_differing_keys_are_listed():
    with pytest.raises(UserError) as caught:
        _check(_config(num_steps=20, optim__lr=0.2))
    assert caught.value.subject == "here"
    assert caught.value.found == (
        "num_steps 100 in the checkpoint, 20 in the recipe; optim.lr 0.1 in the checkpoint, 0.2 in the recipe"
    )
    with pytest.raises(UserError, match=r"optim\.new None in the checkpoint, 1 in the recipe"):
        _check(_config(optim__new=1))


def test_a_checkpoint_of_an_earlier_state_without_a_key_is_sent_to_its_weights():
    earlier = _config()
    for changes, is_earlier in (({"optim__backbone_decay": 1.0}, True), ({"optim__mine": 1}, False)):
        with refused("here", "None in the checkpoint, 1") as caught:
            _check(_config(**changes), earlier)
        assert ("--config.model.init_from=WORKDIR" in caught.value.remedy) == is_earlier
    _check(_config(early_stopping={"patience": 3}), earlier)  # changes no parameter


def test_a_manifest_of_an_earlier_state_without_a_digest_is_not_called_only_damaged():
    small = {"format": FORMAT, "config": {"model": {}}, "class_names": ["car"], "category_ids": [7], "step": 1}
    with pytest.raises(ValueError, match="before the release"):
        check_whole(small | {"parameters": {}, "digests": {"variables": "", "optimizer": ""}}, 1)


def test_num_steps_may_move_unless_the_schedule_ends_there():
    _check(_config(num_steps=200))
    _check(_config(num_steps=50))
    with pytest.raises(UserError, match="num_steps 100 in the checkpoint, 49 in the recipe"):
        _check(_config(num_steps=49))
    with pytest.raises(UserError, match="num_steps 100 in the checkpoint, 200 in the recipe"):
        _check(_config(num_steps=200, optim__schedule="cosine"), _config(optim__schedule="cosine"))


def test_free_keys_stand_in_the_reference_config():
    from lga_jax.checkpoints.manifest import _FREE

    assert set(flatten(coco.get_config())) >= _FREE


def test_first_differing_parameter_is_named_with_the_count():
    table = {"rpn/kernel": [[3, 3, 4, 8], "float32"], "roi/bias": [[5], "float32"], "lga/kernel": [[1], "float32"]}
    with pytest.raises(UserError) as caught:
        check_parameters({"parameters": table}, PARAMS, "here")
    assert caught.value.found.startswith("2 ")
    assert caught.value.found.endswith("first lga/kernel: float32[1] in the checkpoint, missing in the model")


MANIFEST = {"config": json.loads(coco.get_config().to_json())}


def changed(**changes):
    config = coco.get_config()
    config.update_from_flattened_dict(changes)
    return config.model


def test_the_same_model_is_welcome():
    check_model(MANIFEST, coco.get_config().model, "here")


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
        ({"model.attention": "none"}, "model.attention 'lga' in the checkpoint, 'none' in the recipe"),
        ({"model.lga.num_masks": 2}, "model.lga.num_masks 4 in the checkpoint, 2 in the recipe"),
        ({"model.backbone.depth": 101}, "model.backbone.depth 50 in the checkpoint, 101 in the recipe"),
        ({"model.anchors.sizes": (16, 32, 64, 128, 256)}, "model.anchors.sizes"),
        ({"model.pixel_mean": (0.0, 0.0, 0.0)}, "model.pixel_mean"),
        ({"model.roi_align.aligned": False}, "model.roi_align.aligned True in the checkpoint, False in the recipe"),
    ],
)
def test_another_model_is_refused_by_the_key_that_differs(change, words):
    with pytest.raises(UserError) as caught:
        check_model(MANIFEST, changed(**change), "runs/a, step 5")
    assert caught.value.subject == "runs/a, step 5"
    assert words in caught.value.found and "\n" not in str(caught.value)


def test_one_recipe_without_a_key_of_the_other_differs():
    theirs = {"config": {"model": {"attention": "none", "depth": 18}}}
    with pytest.raises(UserError) as caught:
        check_model(theirs, ConfigDict({"attention": "none", "depth": 18, "width": 32}), "here")
    assert "model.width None in the checkpoint, 32 in the recipe" in caught.value.found


def test_no_changed_bit_of_a_manifest_is_accepted_with_another_value():
    """Every bit of the stored text, and every place where it could have been cut."""
    small = {"format": FORMAT, "config": {"model": {"pixel_mean": [123.675, 1e-3]}}, "class_names": ["car"]}
    small |= {"category_ids": [7], "parameters": {"a": [[2], "float32"]}, "schedule_start": 0}
    manifest = sealed(small, 12, {"variables": "ab", "optimizer": "cd", "data": "ef"})
    check_whole(manifest, 12)
    text = json.dumps(manifest).encode()
    changed = [text[:place] for place in range(len(text))]
    for place in range(len(text)):
        changed += [text[:place] + bytes([text[place] ^ 1 << bit]) + text[place + 1 :] for bit in range(8)]
    assert len(changed) == 9 * len(text)
    assert [other for other in changed if _accepted(other) not in (None, manifest)] == []


def _accepted(text):
    """The manifest that is used, or None where the text counts as damaged."""
    try:
        manifest = json.loads(text)
        check_whole(manifest, 12)
    except ValueError:
        return None
    return manifest


def test_a_digest_finds_damage_and_not_forgery():
    """A limit that SECURITY.md names: who changes a manifest can write its digest too."""
    small = {"format": FORMAT, "config": {"model": {"pixel_mean": [1.0]}}, "class_names": ["car"]}
    small |= {"category_ids": [7], "parameters": {}, "schedule_start": 0}
    manifest = sealed(small, 12, {"variables": "ab", "optimizer": "cd", "data": "ef"})
    manifest["config"]["model"]["pixel_mean"] = [2.0]
    with pytest.raises(ValueError, match="digest"):
        check_whole(manifest, 12)
    digests = {name: value for name, value in manifest["digests"].items() if name != "manifest"}
    check_whole(sealed({**small, "config": manifest["config"]}, 12, digests), 12)


def test_the_manifest_of_another_step_is_noticed():
    """A folder that was renamed by hand."""
    manifest = {
        "format": FORMAT,
        "config": {"model": {}},
        "class_names": ["car"],
        "category_ids": [7],
        "parameters": {},
    }
    manifest = sealed({**manifest, "schedule_start": 0}, 12, {"variables": "", "optimizer": "", "data": ""})
    check_whole(manifest, 12)
    with pytest.raises(ValueError, match="step 12"):
        check_whole(manifest, 13)


def _of_stranger(**changes):
    """The manifest of a recipe with changed keys."""
    config = coco.get_config()
    with config.unlocked(), config.ignore_type():
        config.update_from_flattened_dict(changes)
    return {"config": json.loads(config.to_json())}


def test_the_recipe_of_a_manifest_has_tuples_again():
    recipe = recipe_of(_of_stranger(), "here")
    assert recipe.data.buckets == coco.get_config().data.buckets and recipe.data.max_boxes is None
    assert flatten(recipe.model) == flatten(coco.get_config().model)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.buckets", ((13000, 13000),)),
        ("data.eval_buckets", ((13000, 13000),)),
        ("data.eval_buckets", tuple((64, 64 + number) for number in range(65))),
        ("data.num_workers", 10**9),
        ("data.prefetch", 10**9),
        ("model.fpn.channels", 10**9),
        ("model.box_head.hidden", 10**9),
        ("model.proposals.pre_nms_test", 10**9),
        ("model.anchors.aspect_ratios", (1.0,) * 1000),
        ("model.lga.num_masks", 10**6),
        ("inference.max_detections", 10**9),
        ("model.dtype", "object"),
        ("model.backbone.width", "64"),
        ("model.backbone.name", "../resnet"),
    ],
)
def test_rules_of_recipes_hold_for_manifests(key, value):
    with refused(f"^here: its recipe: {key}$"):
        recipe_of(_of_stranger(**{key: value}), "here")


def test_sections_that_prediction_does_not_use_may_be_missing():
    """Later versions have more of them."""
    manifest = _of_stranger()
    for key in ("optim", "losses", "eval_every", "checkpoint_every"):
        del manifest["config"][key]
    del manifest["config"]["data"]["copy_paste"]
    del manifest["config"]["model"]["deformable"]
    assert recipe_of(manifest, "here").model.attention == "lga"
    del manifest["config"]["model"]["lga"]["hidden"]
    with refused(r"^here: its recipe: model\.lga\.hidden$"):
        recipe_of(manifest, "here")


def test_sections_that_an_object_of_the_caller_replaces_are_not_checked():
    manifest = _of_stranger(**{"model.backbone.name": "mine"})
    del manifest["config"]["data"]["train"]["source"]
    assert recipe_of(manifest, "here", OWN_DETECTOR).model.backbone.name == "mine"


@pytest.mark.parametrize(
    "config", [{}, {"a.b": 1}, {"get": {"items": 1}}, {"model": {}, "data": 1}, {"": {}}, {"__class__": 1}]
)
def test_a_manifest_without_a_recipe_is_one_line(config):
    with refused("^here: its recipe: "):
        recipe_of({"config": config}, "here")


def test_a_recipe_of_endless_depth_is_one_line():
    config = {}
    for _ in range(5000):
        config = {"a": config}
    with refused("^here: its recipe: "):
        recipe_of({"config": config}, "here")


@pytest.mark.parametrize(
    "change",
    [
        {"class_names": ["a", "a"]},
        {"class_names": ["a", 1]},
        {"class_names": []},
        {"class_names": ["a"]},
        {"category_ids": [1, 1]},
        {"category_ids": [1, "2"]},
        {"category_ids": [1, True]},
        {"category_ids": [1, 2**63]},
        {"category_ids": [1, 2.0]},
    ],
)
def test_classes_of_a_manifest_are_unique_texts_and_numbers(change):
    check_names(sound := {"class_names": ["a", "b"], "category_ids": [1, 2]})
    with pytest.raises(ValueError, match="manifest"):
        check_names(sound | change)
