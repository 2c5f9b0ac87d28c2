"""A run of W&B in its offline mode: what W&B itself has written is read back."""

import json
import struct

import cv2
import numpy as np
import pytest

pytest.importorskip("wandb", reason="needs wandb: pip install 'lga_jax[wandb]'")

import wandb
from wandb.proto.wandb_internal_pb2 import Record

from lga_jax.training.trackers.wandb_run import WandbRun
from tests.training.stubs import stub_config

_BLOCK = 2**15  # bytes; a record that does not fit into the rest of a block is written in parts


def _records(path):
    data, place, record = path.read_bytes(), 7, b""
    while len(data) - place > 7:
        if (rest := _BLOCK - place % _BLOCK) < 7:
            place += rest
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(record)
            record = b""


def test_what_an_offline_run_holds(tmp_path, monkeypatch):
    for name, value in dict(MODE="offline", SILENT="true", PROJECT="mine", NAME="first").items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    jpeg = cv2.imencode(".jpg", np.full((30, 40, 3), 90, np.uint8))[1].tobytes()
    run = WandbRun(stub_config(), tmp_path, "continued")
    run.add(6, {"train/total": 1.5, "eval_per_class/car (red)": 0.25})
    run.add_images(6, {"samples/sample_0": jpeg})
    run.close(failed=True)
    wandb.teardown()  # ends W&B's own process, which writes the file
    (path,) = tmp_path.glob("wandb/offline-run-*/run-continued.wandb")
    records = list(_records(path))
    (begun,) = (record.run for record in records if record.HasField("run"))
    config = {entry.key: json.loads(entry.value_json) for entry in begun.config.update}
    assert (run.id, begun.run_id, begun.project, begun.display_name) == ("continued", "continued", "mine", "first")
    assert config["optim"]["lr"] == 0.1 and config["data"]["buckets"] == [[32, 32]]
    numbers, pictures = (
        {" ".join(entry.nested_key): json.loads(entry.value_json) for entry in record.history.item}
        for record in records
        if record.HasField("history")
    )
    assert {name: numbers[name] for name in ("step", "train/total", "eval_per_class/car (red)")} == {
        "step": 6,
        "train/total": 1.5,
        "eval_per_class/car (red)": 0.25,
    }
    assert [pictures[f"samples/sample_0 {key}"] for key in ("width", "height", "format")] == [40, 30, "jpg"]
    assert pictures["step"] == 6 and (path.parent / "files" / pictures["samples/sample_0 path"]).is_file()
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [1]
