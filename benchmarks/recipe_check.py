"""Measures the time from the start of a command to its error for a wrong value, including the process start.

    python -m benchmarks.recipe_check [--repeats 3]

Prints a table; exits with status 1 if a fault takes longer than 3 seconds, is not reported in one line, or leaves a
folder.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 3.0  # seconds
FAULTS = {
    "data.resize": "cubic",
    "losses.guide_rois": "front",
    "optim.lr": "-1",
    "model.lga.mu": "argmax",
    "data.buckets": "((100,100),)",
}


def measure(key: str, value: str, repeats: int) -> tuple[list[float], str]:
    """Seconds of each process, and its output: one line about the key, or a description of the failure."""
    seconds = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            workdir = Path(folder, "run")
            command = [sys.executable, str(ROOT / "train.py"), "--config=coco_json", f"--workdir={workdir}"]
            start = time.perf_counter()
            result = subprocess.run(
                [*command, f"--config.{key}={value}"], check=False, capture_output=True, text=True, cwd=folder, env=ENV
            )
            seconds.append(time.perf_counter() - start)
            lines = result.stderr.splitlines()
            reported = result.returncode == 2 and lines and all(line.startswith(f"error: {key}: ") for line in lines)
            if not reported or workdir.exists():
                return seconds, f"WRONG: status {result.returncode}, {result.stderr or 'no output'}"
    return seconds, lines[0]


ENV = {**os.environ, "JAX_PLATFORMS": "cpu"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    good = True
    for key, value in FAULTS.items():
        seconds, line = measure(key, value, repeats)
        good &= max(seconds) < LIMIT and not line.startswith("WRONG")
        print(f"{statistics.median(seconds):.2f} s (at most {max(seconds):.2f} s)  {line}")
    sys.exit(not good)


if __name__ == "__main__":
    main()
