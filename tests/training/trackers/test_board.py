"""Files for TensorBoard, read back record by record."""

import errno
import os
import struct

import cv2
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c

from lga_jax.files import WriteError
from lga_jax.training.trackers.board import Board
from tests.faults import refused


def _events(path):
    data, events = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        checksums = struct.unpack("<I", data[8:12]) + struct.unpack("<I", data[12 + length : 16 + length])
        assert checksums == (masked_crc32c(data[:8]), masked_crc32c(data[12 : 12 + length]))
        events.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return events


def test_scalars_are_there_at_once(tmp_path):
    board = Board(tmp_path / "tensorboard", start_step=4)
    board.add(6, {"train/total": 1.5, "train/lr": 0.25})
    (path,) = (tmp_path / "tensorboard").iterdir()
    version, start, *scalars = _events(path)
    board.close()
    assert path.name.startswith("events.out.tfevents.")
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (5, SessionLog.START)
    assert [(event.step, value.tag, value.simple_value) for event in scalars for value in event.summary.value] == [
        (6, "train/total", 1.5),
        (6, "train/lr", 0.25),
    ]


def test_pictures_hold_the_jpeg_and_its_size(tmp_path):
    jpeg = cv2.imencode(".jpg", np.zeros((30, 40, 3), np.uint8))[1].tobytes()
    board = Board(tmp_path, start_step=0)
    board.add_images(6, {"samples/a": jpeg})
    board.close()
    (path,) = tmp_path.iterdir()
    event = _events(path)[-1]
    (value,) = event.summary.value
    assert (event.step, value.tag, value.image.encoded_image_string) == (6, "samples/a", jpeg)
    assert (value.image.height, value.image.width, value.image.colorspace) == (30, 40, 3)


def test_tensorboard_reads_a_run_that_repeated_steps(tmp_path):
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install 'lga_jax[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    jpeg = cv2.imencode(".jpg", np.zeros((30, 40, 3), np.uint8))[1].tobytes()
    for start, steps in ((0, (2, 4, 6)), (4, (6, 8))):  # resumed at step 4
        board = Board(tmp_path, start)
        for step in steps:
            board.add(step, {"train/lr": float(step)})
        board.add_images(steps[-1], {"samples/sample_0": jpeg})
        board.close()
    read = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in read.Scalars("train/lr")] == [(2, 2), (4, 4), (6, 6), (8, 8)]
    (picture,) = read.Images("samples/sample_0")
    assert (picture.step, picture.encoded_image_string) == (8, jpeg)


def test_each_part_of_a_run_has_a_file_of_its_own(tmp_path):
    for _ in range(2):
        Board(tmp_path, start_step=0).close()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "tensorboard").write_text("mine")
    with refused("tensorboard$", "File exists", WriteError):
        Board(tmp_path / "tensorboard", 0)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG])
def test_a_disk_that_takes_no_more_is_an_error_of_the_caller(tmp_path, monkeypatch, number):
    board = Board(tmp_path, 0)

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", fail)
    with refused("events.out.tfevents", os.strerror(number), WriteError):
        board.add(1, {"a": 1.0})
