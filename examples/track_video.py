"""Tracks the objects of a video. lga_jax detects them; the package trackers gives each object its number.

    pip install lga_jax trackers
    python examples/track_video.py runs/demo street.mp4 tracked.mp4

The tracker joins boxes of low scores to tracks of high ones, so the detector's threshold is low here.
"""

import sys

import numpy as np
import supervision as sv
from trackers import ByteTrackTracker

import lga_jax


def as_detections(found: list[lga_jax.Detection]) -> sv.Detections:
    """Detections of a Predictor in supervision's form, which trackers, counters and annotators read."""
    return sv.Detections(
        xyxy=np.array([one.box for one in found], np.float32).reshape(-1, 4),
        confidence=np.array([one.score for one in found], np.float32),
        class_id=np.array([one.label for one in found], int),
        data={"class_name": np.array([one.name for one in found], str)},
    )


def track(model: lga_jax.Predictor, source: str, target: str) -> list[sv.Detections]:
    """Writes the video `target` with numbered objects. Returns the tracked detections of each frame."""
    info = sv.VideoInfo.from_video_path(source)
    tracker = ByteTrackTracker(frame_rate=info.fps)
    boxes, labels = sv.BoxAnnotator(), sv.LabelAnnotator()
    tracked = []
    with sv.VideoSink(target, info) as sink:
        for frame in sv.get_video_frames_generator(source):  # BGR
            found = tracker.update(as_detections(model.predict(np.ascontiguousarray(frame[..., ::-1]), 0.1)))
            found = found[found.tracker_id >= 0]  # a new object gets its number in its second frame
            names = [f"{name} {number}" for name, number in zip(found["class_name"], found.tracker_id, strict=True)]
            sink.write_frame(labels.annotate(boxes.annotate(frame.copy(), found), found, names))
            tracked.append(found)
    return tracked


if __name__ == "__main__":
    workdir, source, target = sys.argv[1:]
    tracked = track(lga_jax.load(workdir), source, target)
    numbers = {int(number) for found in tracked for number in found.tracker_id}
    print(f"{len(numbers)} objects in {len(tracked)} frames, written to {target}")
