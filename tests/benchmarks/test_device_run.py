"""The script for a GPU or TPU: the order of its parts, their limits and what it writes."""

import collections
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from benchmarks.device_parts import PARTS, kernel_times

ROOT = Path(__file__).parents[2]
FAKE = f"""#!{sys.executable}
import json, os, sys
module, part = sys.argv[2], sys.argv[sys.argv.index("--part") + 1] if "--part" in sys.argv else ""
print(json.dumps({{"table": part, "flags": os.environ["XLA_FLAGS"]}}))
sys.exit(3 if part == "profile" else 0)
"""


def run(tmp_path, **env):
    python = tmp_path / "python"
    python.write_text(FAKE)
    python.chmod(0o755)
    env = os.environ | {"OUT": str(tmp_path / "out"), "PYTHON": str(python), "XLA_FLAGS": "--a"} | env
    subprocess.run(["sh", ROOT / "benchmarks" / "device_run.sh"], env=env, check=True, capture_output=True)
    return [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]


def test_a_line_after_each_measurement_and_each_part(tmp_path):
    lines = run(tmp_path)
    parts = {line["part"]: line["status"] for line in lines if "part" in line}
    assert list(parts)[:4] == ["peak", "step_16", "profile", "prediction_8"]
    assert collections.Counter(parts.values()) == {"0": len(parts) - 1, "3": 1}  # one fails, and the next ones run
    assert {line["table"] for line in lines if "table" in line} == {"", *PARTS}
    assert [line["flags"] for line in lines if "table" in line][-2:] == [
        "--a --xla_gpu_enable_latency_hiding_scheduler=true",
        "--a --xla_gpu_triton_gemm_any=true",
    ]


def test_after_the_total_time_nothing_starts(tmp_path):
    lines = run(tmp_path, TOTAL="0")
    assert {line["status"] for line in lines} == {"none"}


def test_kernels_are_summed_over_devices_alone():
    def plane(name, *events):
        events = [SimpleNamespace(name=event, duration_ns=taken) for event, taken in events]
        return SimpleNamespace(name=name, lines=[SimpleNamespace(events=events)])

    host, device = plane("/host:CPU", ("a", 9)), plane("/device:GPU:0", ("sort", 2), ("sort", 3), ("gemm", 4))
    assert kernel_times(SimpleNamespace(planes=[host, device])) == {"sort": 5, "gemm": 4}
    assert kernel_times(SimpleNamespace(planes=[host])) == {"a": 9}
