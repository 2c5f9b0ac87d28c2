"""TensorBoard: one file of scalars and pictures for each part of a run.

Records are written immediately in the caller's thread, so the caller gets the error of a full disk.
"""

import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import scalar

from lga_jax.files import Appending, make_folder, unused_path


class Board:
    """Writes scalars and pictures into a folder for TensorBoard."""

    def __init__(self, folder: Path, start_step: int) -> None:
        """TensorBoard ignores steps after `start_step` in earlier files. Raises WriteError."""
        make_folder(folder)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}"
        self._file = Appending(unused_path(folder / name))
        self._write(step=0, file_version="brain.Event:2")
        self._write(step=start_step + 1, session_log=SessionLog(status=SessionLog.START))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Adds scalars of a step. Raises WriteError."""
        for name, value in values.items():
            self._write(step=step, summary=scalar(name, value))

    def add_images(self, step: int, jpegs: Mapping[str, bytes]) -> None:
        """Adds JPEG files of a step. Raises WriteError."""
        for name, jpeg in jpegs.items():
            height, width = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape[:2]
            image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=jpeg)
            self._write(step=step, summary=Summary(value=[Summary.Value(tag=name, image=image)]))

    def close(self, failed: bool = False) -> None:
        """Closes the file; it is complete after every record."""
        self._file.close()

    def _write(self, **content: object) -> None:
        # The format of a record: length, checksum of the length, data, checksum of the data.
        data = Event(wall_time=time.time(), **content).SerializeToString()
        length = struct.pack("<Q", len(data))
        checksums = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
        self._file.write(length + checksums[0] + data + checksums[1])
