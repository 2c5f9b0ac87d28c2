"""Prediction on videos, with a stand-in that finds one object in the middle of every frame."""

import json
import os

import cv2
import numpy as np
import pytest

from lga_jax.errors import UserError
from lga_jax.inference import video_job
from lga_jax.inference.video_job import predict_video
from tests.data.making_videos import write_video
from tests.inference.stand_in import MiddleStep, predictor_of


@pytest.fixture
def clip(tmp_path):
    return write_video(tmp_path / "clip.mp4", count=11)


def run(place, output, pictures=True, score_threshold=0.5, most_frames=None):
    with predictor_of(MiddleStep()) as model:
        settings = dict(score_threshold=score_threshold, batch_size=2, pictures=pictures, most_frames=most_frames)
        predict_video(model, str(place), str(output), **settings)


def frames_of(path):
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return frames, capture.get(cv2.CAP_PROP_FPS)


def test_a_video_gives_a_video_and_the_results_of_each_frame(clip, tmp_path, capfd):
    run(clip, tmp_path / "out" / "deep")
    out = tmp_path / "out" / "deep"
    assert sorted(os.listdir(out)) == ["clip.mp4", "detections.json"]
    results = json.loads((out / "detections.json").read_text())
    assert [result["image_id"] for result in results] == list(range(11))
    assert {(r["category_id"], r["category_name"], r["score"]) for r in results} == {(7, "mixer", 0.75)}
    np.testing.assert_allclose(results[4]["bbox"], [16, 12, 32, 24], atol=0.1)
    frames, rate = frames_of(out / "clip.mp4")
    assert len(frames) == 11 and rate == 10.0
    printed = capfd.readouterr()
    assert "11 objects in 11 frames" in printed.out and "11/11" in printed.err  # a progress bar
    last = frames[-1].astype(int)
    scale = last.shape[0] // 48
    inside, border = last[24 * scale + 12, 40 * scale + 12], last[12 * scale : 36 * scale, 16 * scale]
    assert inside[2] > 150 and inside[1] < 60  # the frame, and on it the line of the box in another colour
    assert (np.abs(border - inside).sum(axis=1) > 100).mean() > 0.9


def test_frames_end_the_job_and_no_video_is_drawn_without_pictures(clip, tmp_path):
    run(clip, tmp_path / "out", pictures=False, most_frames=3)
    assert os.listdir(tmp_path / "out") == ["detections.json"]
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())) == 3


def test_objects_below_the_threshold_are_left_out(clip, tmp_path):
    run(clip, tmp_path / "out", score_threshold=0.76, most_frames=2)
    assert json.loads((tmp_path / "out" / "detections.json").read_text()) == []
    assert len(frames_of(tmp_path / "out" / "clip.mp4")[0]) == 2


def test_nothing_that_exists_is_overwritten(clip, tmp_path):
    with pytest.raises(UserError) as raised:
        run(clip, tmp_path)
    assert raised.value.subject == f"--output {tmp_path}" and os.listdir(tmp_path) == ["clip.mp4"]


def interrupt_after(patch, count):
    """Ctrl-C while a frame is drawn."""
    real, calls = video_job.draw_detections, []

    def draw(*args):
        calls.append(1)
        if len(calls) > count:
            raise KeyboardInterrupt
        return real(*args)

    patch.setattr(video_job, "draw_detections", draw)


def test_an_interrupted_video_leaves_nothing(clip, tmp_path, monkeypatch):
    interrupt_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        run(clip, tmp_path / "out")
    assert os.listdir(tmp_path) == ["clip.mp4"]


def test_ctrl_c_ends_a_camera_and_its_files_are_whole(clip, tmp_path, monkeypatch):
    real = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda place, *api: real(str(clip if place == 0 else place)))
    interrupt_after(monkeypatch, 3)
    run(0, tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == ["camera_0.mp4", "detections.json"]
    assert len(frames_of(tmp_path / "out" / "camera_0.mp4")[0]) == 3
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())) == 3


def test_a_video_that_the_disk_does_not_take_is_one_error_and_leaves_nothing(clip, tmp_path, monkeypatch):
    # OpenCV reports no failed write. What it has written has no frames then.
    real = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda place, *api: real(place) if place == str(clip) else real())
    with pytest.raises(UserError) as raised:
        run(clip, tmp_path / "out")
    assert raised.value.subject == str(tmp_path / "out" / "clip.mp4") and "11 frames" in raised.value.expected
    assert os.listdir(tmp_path) == ["clip.mp4"]
