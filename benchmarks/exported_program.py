"""The process of one program for benchmarks/export_speed.py, which starts it: loads a file, then predicts on request.

It imports no more than the program needs, so that the time to the first detection is that of the program.
"""

import argparse
import json
import resource
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

RECIPE = "coco_torchvision_v1"
_EXAMPLES = Path(__file__).parents[1] / "examples"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--file", required=True)
    parser.add_argument("--hw", type=int, nargs=2, required=True)
    args = parser.parse_args()
    serve(program(args.program, args.file, tuple(args.hw)), tuple(args.hw))


def serve(detect: Callable[[np.ndarray], Any], hw: tuple[int, int]) -> None:
    """Predicts once, and again for each line of the standard input."""
    image = np.random.default_rng(0).integers(0, 256, (*hw, 3), np.uint8)
    detect(image)
    _say(seconds=0.0, used=time.process_time())
    for _ in sys.stdin:
        start, used = time.perf_counter(), time.process_time()
        detect(image)
        _say(seconds=time.perf_counter() - start, used=time.process_time() - used)


def _say(**values: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(values | {"peak": peak}), flush=True)


def program(name: str, place: str, hw: tuple[int, int]) -> Callable[[np.ndarray], Any]:
    """Loads a file: the function from an image to detections."""
    if "Predictor" in name:
        return _predictor(place, hw)
    if "StableHLO" in name:
        return runpy.run_path(str(_EXAMPLES / "run_stablehlo.py"))["load"](place)[1]
    if "OpenVINO" in name:
        return _openvino(place, hw)
    if "torchvision" in name:
        return _torchvision(place)
    return runpy.run_path(str(_EXAMPLES / "run_onnx.py"))["load"](place)[1]


def recipe(hw: tuple[int, int]) -> Any:
    """The recipe RECIPE for padded images of this size."""
    from lga_jax.recipe import load

    config = load(RECIPE)
    with config.ignore_type():
        config.data.update(short_edges=(min(hw),), buckets=(hw,), eval_buckets=(hw,))
        config.data.update(eval_short_edge=min(hw), long_edge=max(hw))
    return config


def _predictor(place: str, hw: tuple[int, int]) -> Callable[[np.ndarray], Any]:
    import lga_jax

    return lga_jax.load(place, recipe=recipe(hw)).predict


def _openvino(place: str, hw: tuple[int, int]) -> Callable[[np.ndarray], Any]:
    import openvino

    model = openvino.compile_model(place, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    content = np.float32(hw)
    return lambda image: model(dict(image=image, image_hw=content, original_hw=content))


def _torchvision(place: str) -> Callable[[np.ndarray], Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(place, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image.transpose(2, 0, 1).astype(np.float32) / 255})


if __name__ == "__main__":
    main()
