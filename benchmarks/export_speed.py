"""Exported files side by side: Predictor, StableHLO, onnxruntime, OpenVINO, and torchvision's own ONNX export.

    python -m benchmarks.export_speed --rounds 5

One detector with the same random weights: torchvision's Faster R-CNN R50-FPN, for images of 800 x 1088 and 320 x 320.
Each program is a process of its own (benchmarks/exported_program.py), from a new interpreter to the detections of the
first image; the files are run by examples/run_stablehlo.py and examples/run_onnx.py. Then the processes predict in
turn, one image each, while the others wait. On a machine that others use, compare the processor time. Images need no
resizing. Random weights give nearly no detections, so the time of the last suppression is small everywhere. Needs torch
and torchvision (the extra `bench`) and onnxruntime; OpenVINO takes part if it is installed.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks import timing
from benchmarks.against_torchvision import save_weights, torchvision_detector
from benchmarks.exported_program import RECIPE

SIZES, QUICK_SIZES = ((320, 320), (800, 1088)), ((128, 160),)
FILES = {  # program: its file or folder
    "torchvision, ONNX, onnxruntime": "torchvision.onnx",
    "lga_jax, ONNX, onnxruntime": "float32.onnx",
    "lga_jax, ONNX float16, onnxruntime": "float16.onnx",
    "lga_jax, ONNX, OpenVINO": "float32.onnx",
    "lga_jax, StableHLO": "detector.stablehlo",
    "lga_jax, StableHLO, compiled before": "detector.stablehlo",
    "lga_jax, Predictor": "run",
    "lga_jax, Predictor, compiled before": "run",
}
_BASE = next(iter(FILES))


def rows(args: argparse.Namespace) -> Iterator[dict]:
    for hw in QUICK_SIZES if args.quick else SIZES:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "benchmarks.export_speed", "--write", folder, "--hw", *map(str, hw)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            yield from compare(Path(folder), hw, args.rounds)


def compare(folder: Path, hw: tuple[int, int], rounds: int) -> Iterator[dict]:
    names = [name for name in FILES if "OpenVINO" not in name or importlib.util.find_spec("openvino")]
    with ExitStack() as stack:
        processes = {name: stack.enter_context(Process(name, folder, hw)) for name in names}
        calls: dict[str, list[dict]] = {name: [] for name in names}
        for _ in range(rounds):
            for name, process in processes.items():
                calls[name].append(process.ask())
    seconds, used = ({name: [call[key] for call in calls[name]] for name in names} for key in ("seconds", "used"))
    for name, process in processes.items():
        place = folder / FILES[name]
        num_bytes = sum(file.stat().st_size for file in place.rglob("*")) if place.is_dir() else place.stat().st_size
        yield {
            "table": f"Exported files, {hw[0]} x {hw[1]}",
            "what": name,
            "first detection, s": process.first["seconds"],
            "first detection, CPU-s": process.first["used"],
            **timing.spread(seconds[name]),
            "an image, CPU-ms": 1e3 * float(np.median(used[name])),
            "time / torchvision's ONNX": timing.ratio(seconds[name], seconds[_BASE]),
            "CPU time / torchvision's ONNX": timing.ratio(used[name], used[_BASE]),
            "goal": "<= 1.0" if name == "lga_jax, ONNX, onnxruntime" else "",
            "file, MiB": num_bytes / 2**20,
            "peak memory, MiB": calls[name][-1]["peak"],
        }


class Process:
    """A process of one program, which predicts an image on request."""

    def __init__(self, name: str, folder: Path, hw: tuple[int, int]) -> None:
        # The first process of a program finds no compiled program and leaves its own to the second.
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
        place = ["--file", str(folder / FILES[name]), "--hw", *map(str, hw)]
        command = [sys.executable, "-m", "benchmarks.exported_program", "--program", name, *place]
        start = time.perf_counter()
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._process = subprocess.Popen(command, env=environment, **pipes)
        self.first = self._answer() | {"seconds": time.perf_counter() - start}
        self.ask()  # a warm-up

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def ask(self) -> dict[str, float]:
        """Predicts. Seconds, processor seconds used, and peak memory in MiB."""
        print(file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, float]:
        line = self._process.stdout.readline()
        if not line:
            raise subprocess.CalledProcessError(self._process.wait(), self._process.args)
        return json.loads(line)


def write_files(folder: Path, hw: tuple[int, int]) -> None:
    """Writes the run and all files. The weights are torchvision's initial ones."""
    import torch

    import lga_jax

    save_weights(folder / "weights.safetensors")
    detector = torchvision_detector(min(hw)).eval()
    settings = dict(dynamo=False, opset_version=17, input_names=["image"])
    torch.onnx.export(detector, ([torch.rand(3, *hw)],), str(folder / "torchvision.onnx"), **settings)
    weights = ["--weights", str(folder / "weights.safetensors"), "--workdir", str(folder / "run")]
    command = [sys.executable, "-m", "lga_jax.commands", "import-weights", "--config", RECIPE, *weights]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    lga_jax.export(folder / "run", folder / "detector.stablehlo", size=hw)
    for dtype in ("float32", "float16"):
        lga_jax.export(folder / "run", folder / f"{dtype}.onnx", size=hw, dtype=dtype)


def _run_as_process() -> bool:
    """Writes the files, if the command line asks for it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", type=Path)
    parser.add_argument("--hw", type=int, nargs=2)
    args, _ = parser.parse_known_args()
    if args.write:
        write_files(args.write, tuple(args.hw))
    return bool(args.write)


if __name__ == "__main__":
    if not _run_as_process():
        timing.main(rows, __doc__)
