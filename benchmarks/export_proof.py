"""Compares exported detectors with the Predictor: every backbone family, attention and head, on images of mixed sizes.

    python -m benchmarks.export_proof [--images 40] [--only lga,none] [--workdir RUN]

Writes a table in Markdown. A row is a small detector with initial weights, larger where scores and boxes are predicted,
or with --workdir the detector of a run. StableHLO is compared bit by bit. ONNX detections count as equal if there is
one with the same class, all corners within 0.1 pixels, the score within 1e-4 and the mask centres within 0.05 pixels,
at the same place of the order or at one with a score within 1e-4. OpenVINO takes part if it is installed.
"""

import argparse
import tempfile
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import onnxruntime

import lga_jax
from lga_jax.checkpoints.manifest import manifest_for_classes
from lga_jax.checkpoints.read import Saved, restore_params
from lga_jax.data.batches.loader import EvalLoader
from lga_jax.data.challenge.source import Challenge
from lga_jax.exporting.onnx_file import onnx_file
from lga_jax.exporting.stablehlo import stablehlo_file
from lga_jax.inference.images import GivenImages
from lga_jax.inference.predictor import Predictor
from lga_jax.models.build import build_detector, init_variables
from lga_jax.recipe import load
from lga_jax.structs import Detections

CASCADE = dict(attentions=("none", "lga"), positive_ious=(0.6, 0.7), coder_scales=(2.0, 3.0), loss_weights=(0.5, 0.25))
# Factors of initial weights: the class scores and boxes of a detector at the start of training hardly differ.
_GAINS = {"classes": 30.0, "objectness": 30.0, "deltas": 10.0}
LITE = dict(name="efficientnet_lite", variant=0, norm="bn", norm_eps=1e-3, frozen_stages=0, remat=False)
CASES = {  # name: changes of the `model` section of configs/challenge.py
    "lga, sum, softmax": {},
    "lga, concat, dense": dict(lga=dict(mu="dense", sigma="isotropic", fusion="concat")),
    "cbam": dict(attention="cbam"),
    "non_local": dict(attention="non_local"),
    "squeeze_excitation": dict(attention="squeeze_excitation"),
    "deformable": dict(attention="deformable"),
    "none": dict(attention="none"),
    "cascade none, none, lga": dict(attention="none", cascade=CASCADE),
    "class-agnostic, 2 convolutions": dict(box_head=dict(class_agnostic=True, num_convs=2, num_fcs=1, norm="gn")),
    "ResNet-50, frozen_bn": dict(backbone=dict(depth=50, norm="frozen_bn")),
    "ResNet-50, bn, stride in 1x1": dict(backbone=dict(depth=50, norm="bn", stride_in_1x1=True)),
    "EfficientNet-Lite0": dict(backbone=LITE),
    "torchvision's rules": dict(
        attention="none",
        anchors=dict(rounded=True, fixed_stride=False),
        roi_align=dict(aligned=False),
        proposals=dict(min_size=1e-3),
    ),
    "adaptive RoIAlign": dict(roi_align=dict(sampling_ratio=0)),
}


class Difference(NamedTuple):
    """The comparison of one format with the Predictor on all images."""

    detections: int
    equal: int
    box: float  # largest differences of equal detections
    score: float
    masks: float


def random_run(changes: dict) -> Saved:
    """A small detector with initial weights."""
    config = load("challenge")
    config.data.eval_buckets = ((160, 192),)
    config.data.eval_short_edge, config.data.long_edge = 160, 192
    config.model.backbone.width, config.model.fpn.channels = 16, 32
    for section, change in changes.items():
        if section == "backbone" and "name" in change and change["name"] != "resnet":
            config.model.backbone = type(config)(change)
        elif isinstance(change, dict):
            config.model[section].update(change)
        else:
            config.model[section] = change
    names = [f"class {number}" for number in range(8)]
    initial = init_variables(build_detector(config.model, len(names)), 0)
    rng = np.random.default_rng(0)

    def leaf(path: tuple, values: jax.Array) -> np.ndarray:
        values = np.asarray(values) * np.float32(_GAINS.get(path[-2].key, 1.0))
        is_zero = path[-1].key == "kernel" and not values.any()  # an attention that starts as the identity
        return rng.normal(0, 0.05, values.shape).astype(np.float32) if is_zero else values

    variables = jax.tree_util.tree_map_with_path(leaf, initial)
    manifest = manifest_for_classes(config, names, list(range(1, 9)), variables["params"])
    return Saved(0, "initial weights", manifest, variables)


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
    largest = np.zeros(3)
    for expected, found in pairs:
        total += max(int(expected.valid.sum()), int(found.valid.sum()))
        left = set(np.flatnonzero(found.valid).tolist())
        for one in np.flatnonzero(expected.valid).tolist():
            for other in sorted(left, key=lambda n, one=one: abs(n - one)):
                apart = distances(expected, one, found, other)
                if expected.labels[one] == found.labels[other] and (apart < (0.1, 1e-4, 0.05)).all():
                    left.remove(other)
                    equal += 1
                    largest = np.maximum(largest, apart)
                    break
    return Difference(total, equal, *largest.tolist())


def distances(expected: Detections, one: int, found: Detections, other: int) -> np.ndarray:
    """The differences of boxes, scores and mask centres. A detection elsewhere in the order needs the score of both."""
    score = abs(expected.scores[one] - found.scores[other])
    if one != other:
        score = max(score, abs(expected.scores[one] - expected.scores[min(other, len(expected.scores) - 1)]))
    masks = np.abs(expected.mask_centres[one] - found.mask_centres[other])
    return np.array([np.abs(expected.boxes[one] - found.boxes[other]).max(), score, masks.max(initial=0.0)])


def row(name: str, cells: dict) -> str:
    """A line of the table."""
    shown = [
        f"{cell.equal} of {cell.detections}; {cell.box:.0e}, {cell.score:.0e}, {cell.masks:.0e}"
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
    runs = {name: lambda name=name: random_run(CASES[name]) for name in wanted if name}
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
