"""Frames of video files and cameras, read by OpenCV."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from lga_jax.errors import UserError

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
_USUAL_RATE = 25.0  # frames per second of a camera or file that states none
_MOST_RATE = 1000.0


def is_video(place: str) -> bool:
    """Whether `place` names a video file by its extension, or a camera by its number: 0 is the first one."""
    path = Path(place)
    if path.is_file():
        return path.suffix.lower() in SUFFIXES
    return place.isdecimal() and len(place) < 3 and not path.exists()


class Video:
    """The frames of a video file or a camera, in order, as upright RGB. A context manager.

    Attributes:
        is_camera: the frames have no end.
        rate: frames per second.
        num_frames: as the file states; None for a camera, and for a file that does not state it.
    """

    def __init__(self, place: str) -> None:
        """Opens the file or the camera. Raises UserError if OpenCV cannot."""
        self.is_camera = not os.path.isfile(place)
        with _quiet():
            self._capture = cv2.VideoCapture(int(place)) if self.is_camera else cv2.VideoCapture(place, cv2.CAP_FFMPEG)
        self._ahead = self._read()
        if self._ahead is None:
            self._capture.release()
            raise self._unreadable(place)
        rate, count = (self._capture.get(name) for name in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
        self.rate = rate if 0 < rate <= _MOST_RATE else _USUAL_RATE
        self.num_frames = int(count) if not self.is_camera and 0 < count < 2**31 else None

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """Every frame once. A damaged file ends at its first damaged frame, as players of videos do."""
        while self._ahead is not None:
            yield self._ahead
            self._ahead = self._read()

    def _read(self) -> UInt8[np.ndarray, "h w 3"] | None:
        good, frame = self._capture.read()
        return np.ascontiguousarray(frame[..., ::-1]) if good else None

    def _unreadable(self, place: str) -> UserError:
        if self.is_camera:
            remedy = "connect a camera, or name a file or folder"
            return UserError(f"--input {place}", expected=f"camera {place}", found="no such camera", remedy=remedy)
        remedy = "convert it, for example with ffmpeg"
        return UserError(place, expected="a video that OpenCV reads", found="no frame that can be read", remedy=remedy)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without OpenCV's own lines about what it tries."""
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)
