"""Detectors of other projects as checkpoints, and the scripts on them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import jax
import numpy as np
import pytest
import safetensors.numpy

from configs import coco
from lga_jax.checkpoints.manifest import check_classes, check_config, check_model
from lga_jax.checkpoints.read import restore_params
from lga_jax.checkpoints.write import Checkpoints
from lga_jax.data.source import open_source
from lga_jax.errors import UserError
from lga_jax.training.import_detector import import_weights
from lga_jax.training.optimizer import make_optimizer
from lga_jax.training.step import create_state
from lga_jax.weights.coco_classes import COCO_CLASSES
from tests.weights import foreign

ROOT = Path(__file__).parents[2]
RECIPE = """
from configs import challenge

def get_config():
    config = challenge.get_config()
    config.data.eval.update(num_images=5, image_hw=(64, 64))
    config.data.update(short_edges=(64,), eval_short_edge=64, long_edge=64, buckets=((64, 64),))
    config.model.dtype = "float32"
    config.model.attention = "none"
    config.model.backbone.update(depth=18, width=8, norm="frozen_bn", norm_eps=1e-5, frozen_stages=0)
    config.model.fpn.channels = 16
    config.model.anchors.update(sizes=(32, 64, 128, 256, 512), rounded=True, fixed_stride=False)
    config.model.roi_align.update(crop_size=7, aligned=False)
    config.model.box_head.hidden = 32
    config.model.proposals.update(pre_nms_test=20, post_nms_test=10)
    config.inference.update(max_candidates=20, max_detections=8, score_threshold=0.01)
    return config
"""


def recipe(**changes):
    namespace = {}
    exec(RECIPE, namespace)
    config = namespace["get_config"]()
    config.update_from_flattened_dict(changes)
    return config


def write(folder, arrays, **about):
    path = str(folder / "w.safetensors")
    safetensors.numpy.save_file(arrays, path, {key: json.dumps(value) for key, value in about.items()} or None)
    return path


def refused(config, place, workdir, message):
    with pytest.raises(UserError, match=message) as caught:
        import_weights(config, place, str(workdir))
    assert "\n" not in str(caught.value)
    assert not (workdir / "checkpoints").exists()


def test_detector_of_coco_becomes_a_checkpoint_without_any_data(tmp_path, capsys):
    config = recipe()
    config.data.eval = coco.get_config().data.eval
    arrays = foreign.torchvision_detector(num_classes=90)
    import_weights(config, write(tmp_path, arrays), str(tmp_path / "run"))
    said = capsys.readouterr().out
    assert "torchvision's Faster R-CNN, ResNet-18" in said and "80 of 80 class rows by name" in said
    assert "80 classes: person, bicycle, car, motorcycle, airplane and 75 more\n" in said
    saved = restore_params(str(tmp_path / "run"))
    assert saved.step == 0
    assert saved.manifest["category_ids"] == list(COCO_CLASSES)
    check_classes(saved.manifest, tuple(COCO_CLASSES.values()), "here")
    check_model(saved.manifest, config.model, "here")
    bias = saved.variables["params"]["box_head"]["classes"]["bias"]
    np.testing.assert_array_equal(bias, arrays["roi_heads.box_predictor.cls_score.bias"][[*COCO_CLASSES, 0]])
    with pytest.raises(UserError) as caught:
        import_weights(config, str(tmp_path / "w.safetensors"), str(tmp_path / "run"))
    assert caught.value.subject == f"workdir {tmp_path / 'run'}"


def test_training_goes_on_from_it(tmp_path):
    """What train.py restores: parameters, an optimizer that has seen nothing, the moving average."""
    config = recipe(**{"optim.ema_decay": 0.9})
    arrays = foreign.torchvision_detector(num_classes=len(open_source(**config.data.eval).class_names))
    import_weights(config, write(tmp_path, arrays), str(tmp_path / "run"))
    saved = restore_params(str(tmp_path / "run"))
    check_config(saved.manifest, json.loads(config.to_json()), 0, "here")
    labels = jax.tree.map(lambda leaf: "trained", saved.variables["params"])
    optimizer, _ = make_optimizer(config.optim, config.batch_size, config.num_steps, labels)
    fresh = create_state(saved.variables, optimizer, ema=True)
    with Checkpoints(str(tmp_path / "run")) as checkpoints:
        restored = checkpoints.restore(fresh, saved.manifest)
    assert (restored.step, restored.position) == (0, {})
    jax.tree.map(np.testing.assert_array_equal, restored.state, jax.tree.map(np.asarray, fresh))


def test_classes_come_from_the_file_or_else_from_the_data(tmp_path):
    config = recipe()
    source = open_source(**config.data.eval)
    count = len(source.class_names)
    arrays = foreign.torchvision_detector(num_classes=count)
    import_weights(config, write(tmp_path, arrays), str(tmp_path / "data"))
    manifest = restore_params(str(tmp_path / "data")).manifest
    assert manifest["class_names"] == list(source.class_names)
    assert manifest["category_ids"] == [category["id"] for category in source.truth()["categories"]]

    config.data.eval = coco.get_config().data.eval  # not there
    names = [f"thing {i}" for i in range(count)]
    for number, (about, ids) in enumerate(
        [({}, list(range(1, count + 1))), ({"category_ids": list(range(7, 7 + count))}, list(range(7, 7 + count)))]
    ):
        import_weights(config, write(tmp_path, arrays, class_names=names, **about), str(tmp_path / str(number)))
        manifest = restore_params(str(tmp_path / str(number))).manifest
        assert (manifest["class_names"], manifest["category_ids"]) == (names, ids)
    two = foreign.torchvision_detector(num_classes=2)
    import_weights(config, write(tmp_path, two, class_names=["bus", "dog"]), str(tmp_path / "coco"))
    assert restore_params(str(tmp_path / "coco")).manifest["category_ids"] == [6, 18]


def test_a_run_is_imported_into_another_config(tmp_path):
    config = recipe()
    arrays = foreign.torchvision_detector(num_classes=2)
    import_weights(config, write(tmp_path, arrays, class_names=["a", "b"], category_ids=[5, 9]), str(tmp_path / "run"))
    import_weights(recipe(**{"model.backbone.norm": "bn"}), str(tmp_path / "run"), str(tmp_path / "other"))
    saved = restore_params(str(tmp_path / "other"))
    assert (saved.manifest["class_names"], saved.manifest["category_ids"]) == (["a", "b"], [5, 9])
    norm = saved.variables["params"]["backbone"]["norm1"]["bn"]
    np.testing.assert_array_equal(norm["scale"], arrays["backbone.body.bn1.weight"])


def test_only_all_of_a_detector_is_imported(tmp_path):
    count = len(open_source(**recipe().data.eval).class_names)
    whole = foreign.torchvision_detector(num_classes=count)
    run = tmp_path / "run"
    refused(recipe(), write(tmp_path, foreign.resnet()), run, "found .* without .*fpn")
    guided = recipe(**{"model.attention": "lga"})
    refused(guided, write(tmp_path, whole), run, "without attention; set model.attention='none'")
    other = foreign.torchvision_detector(num_classes=count + 1)
    refused(recipe(), write(tmp_path, other), run, rf"expected the {count} classes .* of {count + 1} ")
    part = {name: value for name, value in whole.items() if name != "rpn.head.bbox_pred.bias"}
    refused(recipe(), write(tmp_path, part), run, r"1 without a value \(rpn/deltas/bias \(12,\)\)")
    more = whole | {"roi_heads.keypoint_head.0.weight": np.ones(3, np.float32)}
    refused(recipe(), write(tmp_path, more), run, "1 left over")
    refused(recipe(**{"model.backbone.depth": 34}), write(tmp_path, whole), run, "depth: expected 18, found 34")


def test_the_config_computes_what_the_file_does(tmp_path):
    count = len(open_source(**recipe().data.eval).class_names)
    place = write(tmp_path, foreign.torchvision_detector(num_classes=count))
    changes = {"model.anchors.rounded": False, "model.roi_align.aligned": True, "model.roi_align.sampling_ratio": 0}
    expected = r"rounded: expected True, found False; .*sampling_ratio: .*aligned: .*configs/coco_torchvision_v1.py"
    refused(recipe(**changes), place, tmp_path / "run", expected)


def test_other_data_of_cocos_size_is_not_coco(tmp_path, monkeypatch):
    place = write(tmp_path, foreign.torchvision_detector(num_classes=90))
    names = tuple(f"thing {i}" for i in range(90))
    monkeypatch.setattr("lga_jax.training.import_detector.open_source", lambda **_: SimpleNamespace(class_names=names))
    expected = r"found data.eval with 90 .*\(thing 0, .*class_names in the metadata"
    refused(recipe(), place, tmp_path / "run", expected)


@pytest.mark.slow
def test_scripts_work_on_an_imported_checkpoint(tmp_path):
    (tmp_path / "tiny.py").write_text(RECIPE)
    arrays = foreign.torchvision_detector(num_classes=len(open_source(**recipe().data.eval).class_names))
    write(tmp_path, arrays)
    (tmp_path / "photos").mkdir()
    image = np.random.default_rng(0).integers(0, 255, (50, 90, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "photos" / "a.png"), image)
    run = ("--workdir", "runs/tiny")
    _call(
        tmp_path,
        "-m",
        "lga_jax.commands.weights.import_weights",
        "--config",
        "tiny.py",
        "--weights",
        "w.safetensors",
        *run,
    )
    said = _call(tmp_path, str(ROOT / "eval.py"), "--config", "tiny.py", *run)
    assert "5 images" in said
    assert {path.name for path in (tmp_path / "runs" / "tiny").iterdir()} >= {"eval_0", "report.html"}
    said = _call(tmp_path, str(ROOT / "predict.py"), *run, "--input", "photos", "--output", "found")
    assert "objects in 1 image" in said
    again = ("-m", "lga_jax.commands.weights.import_weights", "--config", "tiny.py", "--weights", "w.safetensors", *run)
    said = _call(tmp_path, *again, status=2)
    assert len(said.splitlines()) == 1 and said.startswith("error: workdir runs/tiny: ")
    assert "found checkpoints" in said


def _call(folder, *arguments, status=0):
    env = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], check=False, cwd=folder, env=env, capture_output=True, text=True
    )
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout
