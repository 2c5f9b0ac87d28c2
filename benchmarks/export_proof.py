"""Compares exported detectors with the Predictor: every backbone family, attention and head, on images of mixed sizes.

    python -m benchmarks.export_proof [--images 40] [--only "lga;mask head"] [--workdir RUN]

Writes a table in Markdown. A row is a small detector with random weights (benchmarks/random_detectors.py), or with
--workdir the detector of a run. StableHLO is compared bit by bit. An ONNX detection counts as equal if the Predictor
has one with the same class, all corners within 0.1 pixels, the score within 1e-4 and the mask centres within 0.05
pixels, at the same place of the order or at one with a score within 1e-4. OpenVINO takes part if it is installed.
"""

import argparse
import tempfile
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import onnxruntime

import lga_jax
from benchmarks.random_detectors import CASES, SIZE, random_run
from lga_jax.checkpoints.read import Saved, restore_params
from lga_jax.data.batches.loader import EvalLoader
from lga_jax.data.challenge.source import Challenge
from lga_jax.exporting.onnx_file import onnx_file
from lga_jax.exporting.stablehlo import stablehlo_file
from lga_jax.inference.images import GivenImages
from lga_jax.inference.predictor import Predictor
from lga_jax.models.build import build_detector
from lga_jax.structs import Detections

_MOST = (0.1, 1e-4, 0.05, np.inf)  # differences of equal detections: pixels, score, pixels, probability


class Difference(NamedTuple):
    """The comparison of one format with the Predictor on all images."""

    detections: int
    equal: int
    box: float  # largest differences of equal detections
    score: float
    centres: float
    masks: float  # of the probabilities of object masks


def images(count: int) -> list[np.ndarray]:
    """Images of the challenge set, cut to mixed sizes."""
    source = Challenge(num_images=count, seed=5, image_hw=(320, 384))
    rng = np.random.default_rng(0)
    sizes = rng.integers(90, (321, 385), (count, 2))
    return [np.ascontiguousarray(source.image(n)[:height, :width]) for n, (height, width) in enumerate(sizes)]


def measure(saved: Saved, folder: Path, some: list[np.ndarray]) -> dict[str, object]:
    """The cells of a row: 'bits' is the number of images with equal bits, the others are Differences."""
    predictor = Predictor(saved, "run")
    recipe, sizes = predictor.recipe, [tuple(hw) for hw in predictor.recipe.data.eval_buckets]
    detector = build_detector(recipe.model, len(predictor.class_names))
    (folder / "x.stablehlo").write_bytes(stablehlo_file(saved, recipe, detector, sizes, "run"))
    (folder / "x.onnx").write_bytes(onnx_file(saved, recipe, detector, sizes, "run"))
    source = GivenImages(some, predictor.class_names)
    expected = by_image(predictor, source)
    exported = by_image(lga_jax.load(folder / "x.stablehlo"), source)
    bits = sum(all(map(np.array_equal, expected[index], exported[index])) for index in expected)
    batches = list(EvalLoader(source, recipe.data, 1, jax.local_devices()[:1], 0, 1))
    cells = {"bits": f"{bits} of {len(expected)}"}
    for name, run in runtimes(str(folder / "x.onnx")).items():
        pairs = [(expected[int(batch.index[0, 0])], run_batch(run, batch)) for batch in batches]
        cells[name] = difference(pairs)
    return cells


def by_image(predictor: Predictor, source: GivenImages) -> dict[int, Detections]:
    """Detections of each image, by its index."""
    return {
        int(index): jax.tree.map(lambda leaf, row=row: leaf[row], located.detections)
        for located in predictor.locate(source)
        for row, index in enumerate(located.index)
    }


def runtimes(path: str) -> dict:
    """Functions (inputs by name) -> outputs by name."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found = {"onnxruntime": lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))}
    try:
        import openvino
    except ImportError:
        return found
    compiled = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(inputs: dict) -> dict:
        results = compiled(inputs)
        return {name: np.asarray(results[name]).astype(bool if name == "valid" else None) for name in names}

    return found | {"OpenVINO": run}


def run_batch(run: object, batch: object) -> Detections:
    """The detections of the one image of a batch, in pixels of the padded input."""
    image_hw = np.asarray(batch.image_hw[0, 0])
    found = run(dict(image=np.asarray(batch.images[0, 0]), image_hw=image_hw, original_hw=image_hw))
    no_masks = np.zeros((len(found["scores"]), 0, 2), np.float32)
    no_object_masks = np.zeros((len(found["scores"]), 0, 0), np.float32)
    return Detections(**{"mask_centres": no_masks, "mask_sigmas": no_masks, "masks": no_object_masks} | found)


def difference(pairs: list[tuple[Detections, Detections]]) -> Difference:
    """Compares (expected, found) of all images."""
    total = equal = 0
    largest = np.zeros(4)
    for expected, found in pairs:
        total += max(int(expected.valid.sum()), int(found.valid.sum()))
        left = set(np.flatnonzero(found.valid).tolist())
        for one in np.flatnonzero(expected.valid).tolist():
            for other in sorted(left, key=lambda n, one=one: abs(n - one)):
                apart = distances(expected, one, found, other)
                if expected.labels[one] == found.labels[other] and (apart < _MOST).all():
                    left.remove(other)
                    equal += 1
                    largest = np.maximum(largest, apart)
                    break
    return Difference(total, equal, *largest.tolist())


def distances(expected: Detections, one: int, found: Detections, other: int) -> np.ndarray:
    """The differences in the order of _MOST. A detection elsewhere in the order needs the score of both."""
    score = abs(expected.scores[one] - found.scores[other])
    if one != other:
        score = max(score, abs(expected.scores[one] - expected.scores[min(other, len(expected.scores) - 1)]))
    box, centres, masks = (
        np.abs(getattr(expected, name)[one] - getattr(found, name)[other]).max(initial=0.0)
        for name in ("boxes", "mask_centres", "masks")
    )
    return np.array([box, score, centres, masks])


def row(name: str, cells: dict) -> str:
    """A line of the table."""
    shown = [
        f"{cell.equal} of {cell.detections}; {', '.join(f'{value:.0e}' for value in cell[2:])}"
        if isinstance(cell, Difference)
        else cell
        for cell in cells.values()
    ]
    return f"| {' | '.join([name, *shown])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--only", default=None, help="Some rows, separated by ;")
    parser.add_argument("--workdir", default=None, help="A run, as one more row.")
    args = parser.parse_args()
    some = images(args.images)
    wanted = list(CASES) if args.only is None else args.only.split(";")
    whole = Challenge(num_images=4, seed=6, image_hw=SIZE)
    batch = np.stack([whole.image(number) for number in range(4)])
    runs = {name: lambda name=name: random_run(CASES[name], batch) for name in wanted if name}
    if args.workdir:
        runs[args.workdir] = lambda: restore_params(args.workdir)
    heading = None
    for name, make in runs.items():
        with tempfile.TemporaryDirectory() as folder:
            cells = measure(make(), Path(folder), some)
        if heading is None:
            heading = ["detector", "StableHLO, images with equal bits", *list(cells)[1:]]
            print(f"| {' | '.join(heading)} |\n|{'---|' * len(heading)}")
        print(row(name, cells), flush=True)


if __name__ == "__main__":
    main()
