"""predict.py as a user calls it, on the checkpoint of a tiny detector that has learned nothing."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict

from lga_jax.commands import predict as predict_command
from lga_jax.inference import predictor
from tests.commands.calling import run_command
from tests.data.making_videos import write_video
from tests.tiny_run import call


@pytest.fixture
def photos(tmp_path):
    """Two images, and a file that is none."""
    (tmp_path / "photos").mkdir()
    for name, hw in (("tall.png", (120, 70)), ("wide.png", (50, 90))):
        pixels = np.random.default_rng(0).integers(0, 255, (*hw, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "photos" / name), pixels)
    (tmp_path / "photos" / "broken.png").write_bytes(b"no image")
    return tmp_path / "photos"


def check(photos, output, predictor):
    """The files that must be there, and the same detections as the Predictor's."""
    assert {path.name for path in output.iterdir()} == {"detections.json", "tall.png", "wide.png"}
    results = json.loads((output / "detections.json").read_text())
    found = predictor.predict([photos / "tall.png", photos / "wide.png"], score_threshold=0.0)
    flat = [(name, d) for name, some in zip(("tall.png", "wide.png"), found, strict=True) for d in some]
    assert [(r["file_name"], r["category_name"], r["category_id"]) for r in results] == [
        (name, d.name, d.category_id) for name, d in flat
    ]
    boxes = [(x, y, x + width, y + height) for x, y, width, height in (r["bbox"] for r in results)]
    np.testing.assert_allclose([d.box for _, d in flat], boxes, atol=1e-3)


def test_predict_needs_the_workdir_only(tiny_run, tiny_predictor, photos, tmp_path):
    args = ("--workdir", "runs/tiny", "--input", photos, "--output", tmp_path / "found", "--score_threshold", "0.0")
    done = run_command(predict_command, *args, folder=tiny_run)
    assert done.status == 2
    assert done.stderr.splitlines()[-1].startswith("error: --input: expected images, found 1 of 3 files")
    assert "broken.png" in done.stderr
    assert done.stdout.startswith("step 7, the latest, none has a score\n") and "objects in 2 images" in done.stdout
    check(photos, tmp_path / "found", tiny_predictor)


@pytest.mark.slow
def test_the_script_does_the_same(tiny_run, tiny_predictor, photos, tmp_path):
    (photos / "broken.png").unlink()
    args = ("--workdir", "runs/tiny", "--input", photos, "--output", tmp_path / "found", "--score_threshold", "0.0")
    done = call(tiny_run, "predict.py", *args)
    assert done.returncode == 0, done.stderr
    check(photos, tmp_path / "found", tiny_predictor)


@pytest.mark.parametrize(
    ("args", "subject"),
    [
        (("--step", "8"), "workdir runs/tiny"),
        (("--step", "newest"), "--step"),
        (("--batch_size", "0"), "batch_size"),
        (("--score_threshold", "1.5"), "score_threshold"),
        (("--score_threshold", "best"), "score_threshold"),
        (("--frames", "2"), "--frames"),
        (("--attention", "--nopictures"), "--attention"),
    ],
)
def test_faults_of_the_flags_are_one_line_and_write_nothing(tiny_run, photos, tmp_path, args, subject):
    base = ("--workdir", "runs/tiny", "--input", photos, "--output", tmp_path / "found")
    done = run_command(predict_command, *base, *args, folder=tiny_run)
    assert (done.status, done.stdout) == (2, "")
    assert subject in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "found").exists()


def test_attention_shows_below_each_picture_what_the_masks_look_at(tiny_run, photos, tmp_path):
    (photos / "broken.png").unlink()
    base = ("--workdir", "runs/tiny", "--input", photos, "--score_threshold", "0.0")
    for output, flags in (("plain", ()), ("closer", ("--attention",))):
        done = run_command(predict_command, *base, "--output", tmp_path / output, *flags, folder=tiny_run)
        assert done.status == 0, done.stderr
    for name in ("tall.png", "wide.png"):
        plain, closer = (cv2.imread(str(tmp_path / output / name)) for output in ("plain", "closer"))
        assert closer.shape[0] > plain.shape[0]
        np.testing.assert_array_equal(closer[: len(plain)], plain)


def test_attention_needs_images_and_masks(tiny_run, tiny_predictor, photos, tmp_path, monkeypatch):
    clip = write_video(tmp_path / "clip.mp4", count=2)
    base = ("--workdir", "runs/tiny", "--output", tmp_path / "found", "--attention")
    done = run_command(predict_command, *base, "--input", clip, folder=tiny_run)
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: --attention: expected pictures of images, found {clip}, a video or a camera")
    recipe = ConfigDict(tiny_predictor.recipe.to_dict())
    recipe.model.attention = "none"
    without = SimpleNamespace(recipe=recipe)
    monkeypatch.setattr(predictor, "load", lambda *_, **__: without)
    done = run_command(predict_command, *base, "--input", photos, folder=tiny_run)
    assert (done.status, done.stdout) == (2, "")
    expected = (
        "error: --attention: expected a model with Gaussian masks, found model.attention 'none'; leave the flag out"
    )
    assert done.stderr == f"{expected}\n"
    assert not (tmp_path / "found").exists()


def test_auto_takes_the_threshold_of_the_evaluation(tiny_run, tiny_predictor, photos, tmp_path):
    (photos / "broken.png").unlink()
    args = ("--workdir", "runs/tiny", "--input", photos, "--output", tmp_path / "found", "--score_threshold", "auto")
    done = run_command(predict_command, *args, folder=tiny_run)
    assert done.status == 2 and done.stderr.startswith("error: score_threshold=auto: ")
    folder = tiny_run / "runs" / "tiny" / "eval_7"
    folder.mkdir()
    try:
        analysis = {"best_threshold": {"threshold": 0.125}}
        content = {"checkpoint": tiny_predictor.checkpoint, "analysis": analysis}
        (folder / "metrics.json").write_text(json.dumps(content))
        done = run_command(predict_command, *args, folder=tiny_run)
        assert done.status == 0, done.stderr
        assert "score threshold 0.125" in done.stdout and "with a score of at least 0.125" in done.stdout
        photo = photos / "tall.png"
        assert tiny_predictor.predict(photo, "auto") == tiny_predictor.predict(photo, 0.125)
    finally:
        shutil.rmtree(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_a_small_limit_on_addresses_is_one_line_before_anything_is_loaded(tmp_path):
    command = (
        f"ulimit -v 1000000; {sys.executable} -m lga_jax.commands predict --workdir none --input none --output out"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith("error: ulimit -v: expected at least 3.0 GiB, found 1.0 GiB")
    assert list(tmp_path.iterdir()) == []
