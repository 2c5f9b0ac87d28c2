"""Detections of float16 and bfloat16 files, and of OpenVINO's default, against those of a float32 file in onnxruntime.

    python -m benchmarks.export_precision --workdir runs/bccd --images data/bccd/images --count 24

The images are those of the folder, in the order of their names. A detection is found again if there is one of the same
class with an IoU above 0.9, and equal as in benchmarks/export_proof.py. OpenVINO takes part if it is installed.
"""

import argparse
import importlib.util
import runpy
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

import lga_jax
from benchmarks import timing
from benchmarks.export_proof import distances
from lga_jax.structs import Detections

SIZE = (320, 320)
_MOST = (0.1, 1e-4, 0.05, np.inf)
_EXAMPLE = Path(__file__).parents[1] / "examples" / "run_onnx.py"

Detect = Callable[[np.ndarray], dict[str, np.ndarray]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workdir", default="runs/bccd")
    parser.add_argument("--images", default="data/bccd/images")
    parser.add_argument("--count", type=int, default=24)


def rows(args: argparse.Namespace) -> Iterator[dict]:
    files = sorted(Path(args.images).iterdir())[: 2 if args.quick else args.count]
    images = [np.ascontiguousarray(cv2.imread(str(file))[..., ::-1]) for file in files]
    with tempfile.TemporaryDirectory() as folder:
        paths = {dtype: str(Path(folder, f"{dtype}.onnx")) for dtype in ("float32", "float16", "bfloat16")}
        for dtype, path in paths.items():
            lga_jax.export(args.workdir, path, size=SIZE, dtype=dtype)
        expected = None
        for name, detect in _runtimes(paths).items():
            start = time.process_time()
            found = [_as_detections(detect(image)) for image in images]
            seconds = (time.process_time() - start) / len(images)
            expected = found if expected is None else expected
            yield {"table": "Precision of ONNX files", "what": name} | _compared(expected, found, seconds)


def _runtimes(paths: dict[str, str]) -> dict[str, Detect]:
    load = runpy.run_path(str(_EXAMPLE))["load"]
    about = paths["float32"]
    runtimes = {f"{dtype}, onnxruntime": load(paths[dtype])[1] for dtype in ("float32", "float16")}
    if importlib.util.find_spec("openvino"):
        for dtype, path in paths.items():
            runtimes[f"{dtype}, OpenVINO, f32"] = _openvino(path, {"INFERENCE_PRECISION_HINT": "f32"}, about)
        runtimes["float32, OpenVINO's default"] = _openvino(about, {}, about)
    return runtimes


def _openvino(path: str, options: dict[str, str], about: str) -> Detect:
    """The example's function with OpenVINO's session in place of onnxruntime's.

    `about`: the float32 file of the detector, from which onnxruntime reads the metadata.
    """
    import openvino

    example = runpy.run_path(str(_EXAMPLE))
    compiled = openvino.compile_model(path, "CPU", options)
    session = example["onnxruntime"].InferenceSession(about, providers=["CPUExecutionProvider"])

    class Session:
        get_modelmeta, get_inputs, get_outputs = session.get_modelmeta, session.get_inputs, session.get_outputs

        @staticmethod
        def run(names: list[str], inputs: dict) -> list[np.ndarray]:
            found = compiled(inputs)
            return [np.asarray(found[name]).astype(bool if name == "valid" else None) for name in names]

    class Runtime:
        InferenceSession = staticmethod(lambda *_, **__: Session)
        get_available_providers = staticmethod(list)

    example["load"].__globals__["onnxruntime"] = Runtime
    return example["load"](path)[1]


def _as_detections(found: dict[str, np.ndarray]) -> Detections:
    count = len(found["scores"])
    empty = dict(mask_centres=np.zeros((count, 0, 2)), mask_sigmas=np.zeros((count, 0, 2)))
    return Detections(**empty | {"masks": np.zeros((count, 0, 0))} | found)


def _compared(expected: list[Detections], found: list[Detections], seconds: float) -> dict:
    total, equal, scores = 0, 0, []
    for one, other in zip(expected, found, strict=True):
        left = set(range(len(other.scores)))
        total += len(one.scores)
        for number in range(len(one.scores)):
            same = [n for n in left if other.labels[n] == one.labels[number] and _iou(one, number, other, n) > 0.9]
            if same:
                best = max(same, key=lambda n, number=number: _iou(one, number, other, n))
                left.remove(best)
                scores.append(float(abs(one.scores[number] - other.scores[best])))
                equal += bool((distances(one, number, other, best) < _MOST).all())
    return {
        "detections": total,
        "equal": equal,
        "found again": len(scores),
        "score, median difference": float(np.median(scores)),
        "score, largest difference": max(scores),
        "an image, CPU-ms": 1e3 * seconds,
    }


def _iou(one: Detections, number: int, other: Detections, place: int) -> float:
    a, b = one.boxes[number], other.boxes[place]
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return float(shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared + 1e-9))


if __name__ == "__main__":
    timing.main(rows, __doc__, add_arguments)
