"""The hand-over of detections to a tracker, where the package trackers is installed."""

import runpy
from pathlib import Path

import cv2
import pytest

from tests.data.making_videos import write_video
from tests.inference.stand_in import MiddleStep, predictor_of

pytest.importorskip("trackers", reason="trackers is not installed: pip install trackers")

EXAMPLE = Path(__file__).parents[2] / "examples" / "track_video.py"


def test_an_object_keeps_its_number(tmp_path):
    clip, target = write_video(tmp_path / "clip.mp4", count=6), tmp_path / "tracked.mp4"
    track = runpy.run_path(str(EXAMPLE))["track"]
    with predictor_of(MiddleStep()) as model:
        tracked = track(model, str(clip), str(target))
    numbers = [found.tracker_id.tolist() for found in tracked]
    assert len(numbers) == 6 and numbers[2:] == [numbers[-1]] * 4 and len(numbers[-1]) == 1
    assert tracked[-1]["class_name"].tolist() == ["mixer"]
    assert cv2.VideoCapture(str(target)).get(cv2.CAP_PROP_FRAME_COUNT) == 6
