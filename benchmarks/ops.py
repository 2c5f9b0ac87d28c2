"""Single operations: RoIAlign, NMS, proposals, matching, sampling, attention on RoI crops, final detections.

    python -m benchmarks.ops [--only attention,nms] [--rounds 5]

Sizes are from `configs/coco.py`: 512 RoIs, the pyramid of an 800 x 1344 image with 256 channels, 80 classes. Inputs
are random. Differentiable operations are measured forward and forward + backward; the rows of a table run in turn.
"""

import argparse
import functools
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from benchmarks.timing import random_floats
from configs import coco
from lga_jax.models import fpn
from lga_jax.models.postprocess import detect
from lga_jax.models.roi.attention.cbam import CBAM
from lga_jax.models.roi.attention.lga import LGAHead
from lga_jax.models.roi.attention.non_local import NonLocal
from lga_jax.models.roi.stage import CODER_WEIGHTS
from lga_jax.models.rpn import select_proposals
from lga_jax.ops.anchors import pyramid_anchors
from lga_jax.ops.boxes import pairwise_iou
from lga_jax.ops.matching import match
from lga_jax.ops.nms import nms
from lga_jax.ops.roi_align import multilevel_roi_align
from lga_jax.ops.sampling import sample_balanced
from lga_jax.structs import Gaussians, Outputs, RoIs, StageOutputs

CLASSES, CHANNELS = 80, 256
PAIR = 13  # operations per IoU of two boxes: 4 min/max, 2 x (-, max), 3 x */+-, 1 division, 1 comparison


class Sizes(NamedTuple):
    image_hw: tuple[int, int]
    rois: int
    boxes: int  # boxes per level before NMS
    truth: tuple[int, ...]


class Case(NamedTuple):
    what: str
    function: Callable
    args: tuple
    flops: float | None = None  # counted by hand; None: convolutions and matrix products
    num_bytes: float | None = None  # counted by hand; None: arguments and results
    dtype: str = "float32"
    against: str = ""  # reference case for time and memory
    extra: Mapping[str, Any] = MappingProxyType({})  # additional columns


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", default=",".join(TABLES), help=f"Some of {', '.join(TABLES)}.")


def rows(args: argparse.Namespace) -> Iterator[dict]:
    sizes = Sizes((128, 192), 16, 50, (3,)) if args.quick else Sizes((800, 1344), 512, 2000, (20, 100))
    for name in args.only.split(","):
        title, cases, note = TABLES[name]
        yield from _measure(title(sizes), list(cases(sizes)), note, args)


def _measure(table: str, cases: list[Case], note: str, args: argparse.Namespace) -> Iterator[dict]:
    compiled = {case.what: jax.jit(case.function).lower(*case.args).compile() for case in cases}
    calls = {case.what: lambda run=compiled[case.what], args=case.args: run(*args) for case in cases}
    taken = timing.in_turn(calls, args.rounds)
    for case in cases:
        seconds = taken[case.what]
        row = {"table": table, "what": case.what, **timing.spread(seconds)}
        flops = timing.matmul_flops(case.function, *case.args) if case.flops is None else case.flops
        num_bytes = timing.least_bytes(case.function, *case.args) if case.num_bytes is None else case.num_bytes
        row |= {"GFLOP": flops / 1e9, "least MB": num_bytes / 1e6}
        row |= args.machine.share(float(np.median(seconds)), flops, num_bytes, case.dtype)
        row |= timing.memory(compiled[case.what]) | case.extra
        if case.against:
            row["time ratio"] = timing.ratio(seconds, taken[case.against])
            temporary = [compiled[what].memory_analysis().temp_size_in_bytes for what in (case.what, case.against)]
            if temporary[1] > 2**20:  # smaller buffers belong to a library and are unknown to XLA
                row["memory ratio"] = temporary[0] / temporary[1]
        yield row | ({"note": note} if note else {})


def _both(what: str, function: Callable, args: tuple, dtype: str) -> Iterator[Case]:
    """`function(*args)`, and the gradient of its weighted sum with respect to the first argument."""
    result = jax.eval_shape(function, *args)
    weight = random_floats(9, *result.shape, dtype=result.dtype)

    def loss(x: Any, weight: jax.Array, *rest: Any) -> jax.Array:
        return jnp.vdot(function(x, *rest).astype(jnp.float32), weight.astype(jnp.float32))

    yield Case(f"{what}, forward", function, args, dtype=dtype)
    backward = jax.value_and_grad(loss)
    yield Case(f"{what}, forward + backward", backward, (args[0], weight, *args[1:]), dtype=dtype)


def random_boxes(hw: tuple[int, int], num: int, smallest: float = 32, largest: float = 724) -> jax.Array:
    """Boxes [num 4] with log-uniform sides from smallest to largest pixels."""
    random = np.random.default_rng(num)
    sizes = np.exp(random.uniform(np.log(smallest), np.log(largest), (num, 2)))
    centres = random.uniform((0, 0), hw[::-1], (num, 2))
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    return jnp.asarray(boxes.clip(0, [*hw[::-1], *hw[::-1]]), jnp.float32)


def feature_sides(hw: tuple[int, int]) -> list[tuple[int, int]]:
    """Height and width of P2..P6."""
    return [(-(-hw[0] // stride), -(-hw[1] // stride)) for stride in fpn.STRIDES]


def all_anchors(hw: tuple[int, int]) -> list[jax.Array]:
    return pyramid_anchors(hw, feature_sides(hw), fpn.STRIDES, **coco.get_config().model.anchors.to_dict())


def roi_align(sizes: Sizes) -> Iterator[Case]:
    boxes = random_boxes(sizes.image_hw, sizes.rois)
    for dtype in ("float32", "bfloat16"):
        features = [
            random_floats(i, *side, CHANNELS, dtype=dtype) for i, side in enumerate(feature_sides(sizes.image_hw)[:4])
        ]
        for ratio in (2, 0) if dtype == "float32" else (2,):

            def align(features: list, boxes: jax.Array, ratio: int = ratio) -> jax.Array:
                return multilevel_roi_align(
                    features, boxes, strides=fpn.STRIDES[:4], crop_size=7, sampling_ratio=ratio, aligned=True
                )

            yield from _both(f"sampling_ratio {ratio}, {dtype}", align, (features, boxes), dtype=dtype)


def suppression(sizes: Sizes) -> Iterator[Case]:
    for num in (sizes.boxes // 2, sizes.boxes):
        levels = jnp.stack([_crowded(sizes.image_hw, num, seed) for seed in range(5)])
        scores = random_floats(num, 5, num)
        run = jax.vmap(lambda b, s: nms(b, s, 0.7))
        passes = max(_passes(b, s, 0.7) for b, s in zip(np.asarray(levels), np.asarray(scores), strict=True))
        for what, function, args, problems in (
            (f"{num} boxes", lambda b, s: nms(b, s, 0.7), (levels[0], scores[0]), 1),
            (f"5 levels of {num} boxes", run, (levels, scores), 5),
        ):
            count = passes if problems > 1 else _passes(np.asarray(levels[0]), np.asarray(scores[0]), 0.7)
            # One byte per pair, written once and read in every pass.
            pairs = problems * num**2
            yield Case(what, function, args, PAIR * pairs, pairs * (1 + count), extra={"passes": count})


def _crowded(hw: tuple[int, int], num: int, seed: int) -> jax.Array:
    """Boxes [num 4] in groups: 25 around each of num / 25 objects, shifted by a tenth of its size."""
    objects = np.repeat(np.asarray(random_boxes(hw, -(-num // 25))), 25, axis=0)[:num]
    size = np.tile(objects[:, 2:] - objects[:, :2], 2)
    return jnp.asarray(objects + 0.1 * size * np.random.default_rng(seed).standard_normal(objects.shape), jnp.float32)


def _passes(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> int:
    """Number of passes of `nms`: the length of the longest chain of suppressions, plus one to detect the end."""
    boxes = boxes[np.argsort(-scores, kind="stable")]
    suppresses = np.triu(np.asarray(pairwise_iou(jnp.asarray(boxes), jnp.asarray(boxes))) > threshold, k=1)
    keep, passes = np.ones(len(boxes), bool), 0
    while True:
        better, passes = ~suppresses[keep].any(axis=0), passes + 1
        if np.array_equal(better, keep):
            return passes
        keep = better


def proposals(sizes: Sizes) -> Iterator[Case]:
    anchors = all_anchors(sizes.image_hw)
    objectness = [random_floats(i, len(level)) for i, level in enumerate(anchors)]
    deltas = [0.2 * random_floats(10 + i, len(level), 4) for i, level in enumerate(anchors)]
    for mode, pre in (("training", sizes.boxes), ("inference", sizes.boxes // 2)):

        def select(objectness: list, deltas: list, anchors: list, pre: int = pre) -> RoIs:
            hw = jnp.asarray(sizes.image_hw, jnp.float32)
            return select_proposals(
                objectness, deltas, anchors, hw, pre_nms=pre, post_nms=1000, nms_iou=0.7, min_size=0.0
            )

        yield Case(f"{mode}, {pre} a level into NMS", select, (objectness, deltas, anchors))
    yield Case(
        f"top_k alone, {sizes.boxes} of each level",
        lambda levels: [jax.lax.top_k(level, min(sizes.boxes, len(level))) for level in levels],
        (objectness,),
    )


def matching(sizes: Sizes) -> Iterator[Case]:
    anchors = jnp.concatenate(all_anchors(sizes.image_hw))
    for num in sizes.truth:
        truth, valid = random_boxes(sizes.image_hw, num), jnp.ones(num, bool)

        def find(anchors: jax.Array, truth: jax.Array, valid: jax.Array) -> Any:
            return match(anchors, truth, valid, positive_iou=0.7, negative_iou=0.3, low_quality=True)

        yield Case(f"matching, {num} objects", find, (anchors, truth, valid), PAIR * len(anchors) * num)
    key, random = jax.random.key(0), np.random.default_rng(0).random(len(anchors))
    rule = dict(num_samples=256, positive_fraction=0.5)
    args = (key, jnp.asarray(random < 1e-3), jnp.asarray(random > 1e-2), jnp.zeros(len(anchors), jnp.int32))
    num_bytes = 6.0 * len(anchors)  # two flags and an index
    yield Case("sampling 256 of them", lambda *a: sample_balanced(*a, **rule), args, flops=0.0, num_bytes=num_bytes)


def attention(sizes: Sizes) -> Iterator[Case]:
    """LGA in training, with a guide: logits of masked crops of the first stage, which is frozen here.

    Close-ups, the default, read a whole feature map: `python -m studies.attention.cost` measures them.
    """
    model = coco.get_config().model.to_dict()
    for dtype in ("float32", "bfloat16"):
        blocks = {
            "non-local": NonLocal(**model["non_local"], dtype=dtype),
            "LGA": LGAHead(**model["lga"] | {"guide_level": "c2"}, num_classes=CLASSES, dtype=dtype),
            "CBAM": CBAM(**model["cbam"], dtype=dtype),
        }
        crops = random_floats(0, sizes.rois, 7, 7, CHANNELS, dtype=dtype)
        weight = random_floats(1, *crops.shape, dtype=dtype)
        seen = random_floats(2, *crops.shape, dtype=dtype)
        for name, block in blocks.items():

            def call(module: Any, crops: jax.Array, seen: jax.Array) -> tuple:
                found = module({"pyramid": crops, "c2": seen}.get, True)
                return found.fused, jnp.zeros(()) if found.guide_logits is None else found.guide_logits.mean()

            variables = block.init(jax.random.key(0), crops, seen, method=call)
            run = functools.partial(block.apply, method=call)

            def forward(variables: dict, crops: jax.Array, block: Any = block) -> jax.Array:
                return block.apply(variables, lambda level: crops, False).fused

            def both(variables: dict, crops: jax.Array, seen: jax.Array, weight: jax.Array, run: Any = run) -> Any:
                """Input of the box head, the guide's loss, and gradients with respect to parameters and crops."""
                (fused, guide), back = jax.vjp(lambda variables, crops: run(variables, crops, seen), variables, crops)
                return fused, guide, back((weight, jnp.ones_like(guide)))

            for what, function, args in (
                ("forward", forward, (variables, crops)),
                ("forward + backward", both, (variables, crops, seen, weight)),
            ):
                goal = {"goal": "<= 0.5"} if name == "LGA" and function is both else {}
                against = f"non-local, {what}, {dtype}"
                yield Case(f"{name}, {what}, {dtype}", function, args, dtype=dtype, against=against, extra=goal)


def detections(sizes: Sizes) -> Iterator[Case]:
    """Detections from 1000 proposals, with more than `max_candidates` pairs above the threshold."""
    num, masks = (sizes.boxes // 2, 4)
    shape = (1, num, masks)
    rois = RoIs(random_boxes(sizes.image_hw, num)[None], random_floats(0, 1, num), jnp.ones((1, num), bool))
    gaussians = Gaussians(3.5 + random_floats(1, *shape, 2), jnp.ones((*shape, 2)), jnp.ones((*shape, 7, 7)))
    logits = 2.0 * random_floats(2, 1, num, CLASSES + 1)
    deltas = random_floats(3, 1, num, CLASSES, 4)
    image_hw = jnp.asarray([sizes.image_hw], jnp.float32)

    def find(rois: RoIs, logits: jax.Array, deltas: jax.Array, gaussians: Gaussians) -> Any:
        stage = StageOutputs(rois, None, gaussians, None, logits, deltas, jnp.asarray(CODER_WEIGHTS))
        return detect(Outputs(None, (stage,)), image_hw, **coco.get_config().inference.to_dict())

    yield Case(f"{num} RoIs, {CLASSES} classes", find, (rois, logits, deltas, gaussians))


def _pyramid(sizes: Sizes) -> str:
    return f"P2-P5 of {sizes.image_hw[0]} x {sizes.image_hw[1]}"


# Heading, cases and note of each table.
TABLES = {
    "roi_align": (
        lambda sizes: f"RoIAlign: {sizes.rois} RoIs, {_pyramid(sizes)}, {CHANNELS} channels",
        roi_align,
        "`least MB` counts the whole pyramid once; with 2 x 2 points per cell, each result gathers 16 numbers.",
    ),
    "nms": (
        lambda sizes: "NMS: boxes in heaps of 25, IoU 0.7",
        suppression,
        f"`GFLOP` is {PAIR} operations per pair, `least MB` one byte per pair, written once and read in every pass.",
    ),
    "proposals": (
        lambda sizes: f"Proposals of an image of {sizes.image_hw[0]} x {sizes.image_hw[1]}",
        proposals,
        "Bound by sorting and NMS, not by traffic: the share says only how far from free they are.",
    ),
    "matching": (
        lambda sizes: f"Matching and sampling of all anchors of {sizes.image_hw[0]} x {sizes.image_hw[1]}",
        matching,
        f"`GFLOP` of matching is {PAIR} operations per pair, none of them a multiply-add.",
    ),
    "attention": (
        lambda sizes: f"Attention blocks on {sizes.rois} crops of 7 x 7 x {CHANNELS}, against non-local",
        attention,
        "LGA with masked crops, without close-ups. Forward + backward has the guide, which inference does without.",
    ),
    "detect": (
        lambda sizes: "Final detections of one image",
        detections,
        "",
    ),
}


if __name__ == "__main__":
    timing.main(rows, __doc__, add_arguments)
