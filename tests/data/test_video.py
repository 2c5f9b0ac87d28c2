"""Frames of videos, on files that OpenCV writes."""

import cv2
import numpy as np
import pytest

from lga_jax.data.video import Video, is_video
from lga_jax.errors import UserError
from tests.data.making_videos import write_video


def test_every_frame_once_in_order_as_rgb(tmp_path):
    path = write_video(tmp_path / "a.mp4", count=5)
    with Video(str(path)) as video:
        frames = list(video)
        assert (video.is_camera, video.rate, video.num_frames) == (False, 10.0, 5)
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 5
    brightness = [frame[..., 0].mean() for frame in frames]
    assert brightness == sorted(brightness) and brightness[-1] > brightness[0] + 100
    assert all(frame[..., 2].mean() < 40 for frame in frames)  # red grows, blue is absent


def test_names_of_videos_and_numbers_of_cameras(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.MP4", "a.png", "7"):
        (tmp_path / name).write_bytes(b"")
    assert is_video(str(tmp_path / "a.MP4")) and is_video("0") and is_video("12")
    assert not any(is_video(place) for place in ("a.png", "none.mp4", "7", "-1", "1.5", "photos"))


@pytest.mark.parametrize("data", [b"", b"no video", b"\x00\x00\x00\x1cftypisom\x00\x00\x02\x00"])
def test_a_file_without_frames_is_a_users_error(tmp_path, data):
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    with pytest.raises(UserError) as raised:
        Video(str(path))
    assert raised.value.subject == str(path)


def test_a_missing_camera_is_a_users_error():
    with pytest.raises(UserError) as raised:
        Video("97")
    assert (raised.value.subject, raised.value.expected) == ("--input 97", "camera 97")


def test_a_damaged_video_gives_the_frames_before_the_damage(tmp_path):
    path = write_video(tmp_path / "a.mkv", count=20)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with Video(str(path)) as video:
        assert 5 < len(list(video)) < 15


def test_a_camera_has_no_number_of_frames(tmp_path, monkeypatch):
    path, real = write_video(tmp_path / "a.mp4", count=2), cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: real(str(path)) if number == 3 else None)
    with Video("3") as video:
        assert video.is_camera and video.num_frames is None and len(list(video)) == 2
    assert np.isfinite(video.rate)
