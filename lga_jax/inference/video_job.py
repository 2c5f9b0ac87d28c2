"""Prediction on a video or a camera: writes detections as COCO results and a video with them."""

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import jax
import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from lga_jax.data.video import Video
from lga_jax.drawing.canvas import make_canvas
from lga_jax.drawing.pictures import draw_detections
from lga_jax.errors import UserError, counted
from lga_jax.files import check_free, make_folder, write_json, writing
from lga_jax.inference.coco_results import per_image
from lga_jax.inference.images import GivenImages
from lga_jax.inference.predictor import Predictor
from lga_jax.terminal import say

_BATCHES_AHEAD = 4  # frames of a file that are read before they are predicted
_CODEC = "mp4v"  # MPEG-4 part 2: OpenCV's wheels have no H.264

Frame = UInt8[np.ndarray, "h w 3"]


def predict_video(
    predictor: Predictor,
    place: str,
    output: str,
    *,
    score_threshold: float,
    batch_size: int,
    pictures: bool,
    most_frames: int | None = None,
) -> None:
    """Detects objects with score at least score_threshold in each frame of a video file, or of the camera `place`.

    Writes output/detections.json, where image_id is the number of the frame, from 0, and with `pictures` the video
    output/NAME.mp4.
    `most_frames`: the number of frames after which to stop; None: all. A camera also ends with Ctrl-C.
    """
    check_free(output)
    results: list[dict] = []
    with Video(place) as video:
        name = f"camera_{place}" if video.is_camera else Path(place).stem
        with _Writer(Path(output, f"{name}.mp4") if pictures else None, video.rate) as writer:
            num_frames = _predict_frames(predictor, video, writer, results, score_threshold, batch_size, most_frames)
    make_folder(output)
    write_json(Path(output) / "detections.json", results)
    found = f"{counted(len(results), 'object')} in {counted(num_frames, 'frame')}"
    say(f"{found} with a score of at least {score_threshold:g}, written to {output}")


def _predict_frames(
    predictor: Predictor,
    video: Video,
    writer: "_Writer",
    results: list[dict],
    score_threshold: float,
    batch_size: int,
    most_frames: int | None,
) -> int:
    """Adds the results of all frames. Returns the number of frames."""
    names = dict(zip(predictor.category_ids, predictor.class_names, strict=True))
    known = [count for count in (video.num_frames, most_frames) if count is not None]
    at_once = 1 if video.is_camera else batch_size * len(jax.local_devices()) * _BATCHES_AHEAD
    frames = itertools.islice(video, most_frames)
    done = 0
    with tqdm(total=min(known, default=None), desc="predicting", unit="frame") as bar:
        try:
            while some := list(itertools.islice(frames, at_once)):
                for frame, found in _found(predictor, some, score_threshold, batch_size):
                    kept = [one | {"image_id": done} for one in found if one["score"] >= score_threshold]
                    writer.add(frame, kept, names)
                    results += [one | {"category_name": names[one["category_id"]]} for one in kept]
                    done += 1
                    bar.update()
        except KeyboardInterrupt:
            if not video.is_camera:
                raise
    return done


def _found(
    predictor: Predictor, frames: Sequence[Frame], score_threshold: float, batch_size: int
) -> Iterator[tuple[Frame, list[dict]]]:
    """Each frame with its results, in order."""
    source = GivenImages(frames, predictor.class_names)
    located = predictor.locate(source, score_threshold=score_threshold, batch_size=batch_size)
    found = {
        index: results
        for batch in located
        for index, results in per_image(batch, source.records, predictor.category_ids)
    }
    return ((frame, found[index]) for index, frame in enumerate(frames))


class _Writer:
    """Writes the frames with their detections. The file appears when it is complete; a failure leaves none."""

    def __init__(self, path: Path | None, rate: float) -> None:
        """`path`: None: no video."""
        self._path, self._rate, self._num_frames = path, rate, 0
        self._unfinished = path and path.with_name(f".{path.name}.unfinished.mp4")
        self._file: cv2.VideoWriter | None = None

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._file is None:
            return
        self._file.release()
        try:
            if kind is None:
                self._finish()
        finally:
            self._unfinished.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it has files
                self._path.parent.rmdir()

    def add(self, frame: Frame, found: Sequence[dict], names: dict[int, str]) -> None:
        """Draws and writes a frame; its legend is left out, because all frames of a video have one size."""
        if self._path is None:
            return
        hw = make_canvas(frame).pixels.shape[:2]
        picture = draw_detections(frame, found, names)[: hw[0] // 2 * 2, : hw[1] // 2 * 2]
        if self._file is None:
            self._file = self._open(picture.shape[:2])
        self._file.write(np.ascontiguousarray(picture[..., ::-1]))
        self._num_frames += 1

    def _open(self, hw: tuple[int, int]) -> cv2.VideoWriter:
        make_folder(self._path.parent)
        file = cv2.VideoWriter(str(self._unfinished), cv2.VideoWriter.fourcc(*_CODEC), self._rate, hw[::-1])
        if not file.isOpened():
            raise UserError(str(self._path), expected="a video that OpenCV can write", found=f"no codec {_CODEC}")
        return file

    def _finish(self) -> None:
        """Gives the file its name. OpenCV reports no failed writes, so the frames of the file are counted."""
        written = cv2.VideoCapture(str(self._unfinished), cv2.CAP_FFMPEG)
        count = int(written.get(cv2.CAP_PROP_FRAME_COUNT))
        written.release()
        if count != self._num_frames:
            found = f"a file of {count}; the disk may be full"
            raise UserError(str(self._path), expected=counted(self._num_frames, "frame"), found=found)
        with writing(self._path):
            os.replace(self._unfinished, self._path)
