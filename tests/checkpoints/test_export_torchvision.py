"""What export_weights writes, read again by this project and by torch."""

import json
import re
import sys

import jax
import numpy as np
import pytest

from configs import coco_torchvision_v1, coco_torchvision_v2
from lga_jax.checkpoints import export_torchvision as module
from lga_jax.checkpoints.export_torchvision import constructor, export_weights
from lga_jax.checkpoints.read import Saved
from lga_jax.errors import UserError
from lga_jax.weights.files import read_weights
from lga_jax.weights.load import load_pretrained
from tests.weights.loading import CLASSES, STAYS, export_source, export_variables


def config(**changes):
    result = coco_torchvision_v1.get_config()
    result.model.backbone.depth = 18
    result.update_from_flattened_dict({"model.backbone.norm_eps": 1e-5} | changes)
    return result


@pytest.fixture
def saved(monkeypatch):
    """Stands for a checkpoint of step 7."""

    def install(**changes):
        manifest = {
            "config": json.loads(config(**changes).to_json()),
            "class_names": list(CLASSES),
            "category_ids": [3, 5, 9],
        }
        monkeypatch.setattr(
            module, "restore_params", lambda workdir, step: Saved(7, "the latest", manifest, export_variables(1))
        )

    install()
    return install


def refused(output):
    with pytest.raises(UserError) as caught:
        export_weights("runs/x", "best", str(output))
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_written_and_read_again(tmp_path, saved, capsys, suffix):
    if suffix == "pth":
        pytest.importorskip("torch", reason="needs torch, which writes .pth files")
    path = tmp_path / f"w.{suffix}"
    export_weights("runs/x", "best", str(path))
    said = capsys.readouterr().out
    assert "arrays of step 7, the latest, 3 classes" in said
    assert "FasterRCNN(resnet_fpn_backbone(backbone_name='resnet18', weights=None), num_classes=4)" in said
    weights = read_weights(str(path))
    theirs = export_source(1)
    assert weights.arrays.keys() == theirs.keys()
    name = "roi_heads.box_head.fc6.weight"
    np.testing.assert_array_equal(weights.arrays[name], theirs[name])
    assert list(tmp_path.iterdir()) == [path]  # nothing unfinished beside it
    known = suffix == "safetensors"
    assert weights.class_names == (CLASSES if known else None)
    assert weights.category_ids == ((3, 5, 9) if known else None)
    blank = jax.tree.map(lambda leaf: np.full_like(leaf, STAYS), export_variables(1))
    again, report = load_pretrained(weights, blank, CLASSES, config().model.to_dict(), exact=True)
    jax.tree.map(np.testing.assert_array_equal, again, export_variables(1))
    assert ("3 of 3 class rows by name" if known else "3 of 3 class rows by position") in report
    if known:  # the file says that its norms are for 1e-5
        with pytest.raises(UserError, match="model.backbone.norm_eps: expected 1e-05, found 0.0"):
            load_pretrained(weights, blank, CLASSES, config(**{"model.backbone.norm_eps": 0.0}).model.to_dict())


def test_what_has_no_argument_there_is_told(tmp_path, saved, capsys):
    export_weights("runs/x", "best", str(tmp_path / "same.safetensors"))
    assert "differ" not in capsys.readouterr().out
    saved(**{"data.size_rounding": "nearest", "inference.min_size": 0.0})
    export_weights("runs/x", "best", str(tmp_path / "other.safetensors"))
    warning = capsys.readouterr().out.splitlines()[-1]
    assert warning.count(";") == 1
    assert re.search("data.size_rounding .*nearest.* floor; inference.min_size .*0.0.* 0.01$", warning)


def test_torch_reads_it_without_pickle(tmp_path, saved):
    safetensors_torch = pytest.importorskip("safetensors.torch", reason="needs torch", exc_type=ImportError)
    export_weights("runs/x", "best", str(tmp_path / "w.safetensors"))
    state = safetensors_torch.load_file(tmp_path / "w.safetensors")
    assert state["backbone.body.bn1.num_batches_tracked"].shape == ()


def test_refused_before_anything_is_written(tmp_path, saved, monkeypatch):
    there = tmp_path / "w.safetensors"
    there.write_bytes(b"mine")
    assert refused(there).subject == f"--output {there}"
    assert there.read_bytes() == b"mine"
    error = refused(tmp_path / "w.npz")
    assert error.subject == f"--output {tmp_path / 'w.npz'}"
    assert ".safetensors" in error.expected and ".npz" in error.found
    assert "No such file" in refused(tmp_path / "none" / "w.safetensors").found
    monkeypatch.setitem(sys.modules, "torch", None)
    error = refused(tmp_path / "w.pth")
    assert error.subject == "--output" and "lga_jax[torch]" in error.remedy
    saved(**{"model.attention": "lga", "model.roi_align.aligned": True})
    message = str(refused(tmp_path / "new.pth"))
    assert message.startswith("workdir runs/x, step 7: ")
    assert "model.attention: " in message and "; model.roi_align.aligned" in message
    assert list(tmp_path.iterdir()) == [there]


def test_constructor_names_what_is_not_torchvisions_default():
    def call(recipe, **changes):
        recipe.update_from_flattened_dict(changes)
        return constructor(json.loads(recipe.to_json()), 20)

    first = "fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=21"
    assert call(coco_torchvision_v1.get_config()) == f"{first})"
    changes = {"inference.score_threshold": 0.3, "data.eval_short_edge": 600, "model.proposals.post_nms_test": 300}
    expected = f"{first}, rpn_post_nms_top_n_test=300, box_score_thresh=0.3, min_size=600)"
    assert call(coco_torchvision_v1.get_config(), **changes) == expected
    assert call(coco_torchvision_v2.get_config()).startswith("fasterrcnn_resnet50_fpn_v2(weights=None, ")
