"""Small videos for tests."""

import cv2
import numpy as np


def write_video(path, count, codec="mp4v", hw=(48, 64)):
    """A video of `count` frames, whose red grows from 0 to 200; 10 frames per second."""
    file = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10.0, hw[::-1])
    for number in range(count):
        frame = np.zeros((*hw, 3), np.uint8)
        frame[..., 2] = 200 * number // max(1, count - 1)
        file.write(frame)
    file.release()
    return path
