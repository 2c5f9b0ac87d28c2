"""Training step and inference by stages, and the cost of attention in the step.

    python -m benchmarks.step --config configs/coco.py --image_hw 512,512 --images 1 [--only training,attention]

The time of a stage is the difference of two programs in one round: the forward pass that ends after the stage and the
one that ends before it. Both are `Detector.__call__`; values that are not returned are not computed. Backward is
measured the same way, with the gradient of the sum of all returned values, minus forward. The optimizer's time is the
whole step minus the gradient of the losses. XLA fuses across stages, so a small stage can have a time of zero or below.
Utilisation is the model's FLOPs divided by time and measured peak.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from benchmarks import timing
from lga_jax.inference.step import make_predict_step
from lga_jax.models.build import build_detector, init_variables
from lga_jax.models.detector import Detector
from lga_jax.models.losses import detection_losses
from lga_jax.models.postprocess import detect
from lga_jax.models.roi.crops import RoICrops
from lga_jax.recipe import check, load, override
from lga_jax.structs import Batch, Outputs, Targets
from lga_jax.training.step import create_state, make_train_step

NUM_CLASSES = 80
# Method of the detector or a part -> the stage that ends with its result.
STAGE_OF = {
    ("backbone", "__call__"): "backbone",
    ("fpn", "__call__"): "FPN",
    ("rpn", "predict"): "RPN head",
    ("rpn", "propose"): "proposals",
    ("stages_0", "attention", "__call__"): "attention",
    ("stages_0", "box_head", "__call__"): "box head",
}
INFERENCE = ("backbone", "FPN", "RPN head", "proposals", "RoIAlign", "attention", "box head", "detections")
TRAINING = (*INFERENCE[:4], "sampling", *INFERENCE[4:6], "guide", "box head", "losses")
WITHOUT_GRADIENT = ("proposals", "sampling")


def add_config(parser: argparse.ArgumentParser) -> None:
    """A recipe and the size of its batch; `recipe` and `random_batch` read these flags."""
    parser.add_argument("--config", default="configs/coco.py", help="Recipe; --config.KEY=VALUE changes a value of it.")
    parser.add_argument("--image_hw", default="512,512", help="Padded height,width in pixels.")
    parser.add_argument("--images", type=int, default=1, help="Images per device.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--variants", default="none,lga,cbam,non_local", help="Values of model.attention.")
    parser.add_argument("--dtypes", help="Types of whole steps. Default: float32, and bfloat16 except on CPUs.")
    parser.add_argument("--stage_dtype", default="", help="Type for stages; default: float32 on a CPU.")
    parser.add_argument("--only", default="training,inference,attention", help="Tables to measure.")


def rows(args: argparse.Namespace) -> Iterator[dict]:
    if args.quick:
        args.image_hw, args.dtypes, args.variants = "64,64", "float32", "none,lga"
        args.overrides = [*args.overrides, *TINY]
    on_cpu = jax.devices()[0].platform == "cpu"
    args.dtypes = args.dtypes or ("float32" if on_cpu else "float32,bfloat16")
    dtype = args.stage_dtype or ("float32" if on_cpu else "bfloat16")
    for name in args.only.split(","):
        yield from attention(args) if name == "attention" else stages(args, dtype, training=name == "training")
    if "attention" in args.only and not args.quick:  # at the recipe's size the share of RoIs is smaller
        yield from attention(argparse.Namespace(**vars(args) | {"image_hw": "800,1344", "variants": "none,lga"}))


# A small network that compiles in seconds.
TINY = [
    f"--config.model.{change}"
    for change in ("backbone.depth=18", "backbone.width=8", "fpn.channels=16", "box_head.hidden=32")
] + ["--config.model.roi_sampling.num_samples=16"]


def recipe(args: argparse.Namespace, **model: Any) -> ConfigDict:
    """The recipe of the command line with the given model values."""
    config = load(args.config)
    override(config, dict(change.removeprefix("--config.").split("=", 1) for change in args.overrides))
    config.model.update(model)
    return check(config)


def random_batch(args: argparse.Namespace, num_boxes: int = 20) -> Batch:
    """Random pixels and boxes for every local device."""
    random = np.random.default_rng(0)
    hw = tuple(int(side) for side in args.image_hw.split(","))
    lead = (jax.local_device_count(), args.images)
    corners = random.uniform(0, 0.6 * min(hw), (*lead, num_boxes, 2))
    boxes = np.concatenate([corners, corners + random.uniform(16, 0.4 * min(hw), (*lead, num_boxes, 2))], axis=-1)
    batch = Batch(
        images=random.integers(0, 255, (*lead, *hw, 3), dtype=np.uint8),
        image_hw=np.full((*lead, 2), hw, np.float32),
        scale_hw=np.ones((*lead, 2), np.float32),
        targets=Targets(
            boxes=boxes.astype(np.float32),
            labels=random.integers(0, NUM_CLASSES, (*lead, num_boxes)).astype(np.int32),
            valid=np.ones((*lead, num_boxes), bool),
        ),
        index=np.zeros(lead, np.int32),
    )
    # On the devices before the measurement starts, as with the loader.
    return jax.pmap(lambda leaf: leaf)(batch)


def observe(detector: Detector, variables: dict, batch: Batch, training: bool) -> tuple[Outputs, dict[str, Any]]:
    """The forward pass of one device: the outputs, and the result of each stage by name."""
    seen = {}

    def note(call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        place = (*context.module.path, context.method_name)
        result = call(*args, **kwargs)
        if place in STAGE_OF:
            seen.setdefault(STAGE_OF[place], result)
        return result

    def crop(crops: RoICrops, level: str, call: Callable = RoICrops.__call__) -> jax.Array:
        result = call(crops, level)
        seen.setdefault("RoIAlign", result)  # with guide_level c2 the second crops belong to the guide
        return result

    targets = keys = None
    if training:
        targets, keys = batch.targets, jax.random.split(jax.random.key(0), batch.index.shape[0])
    with nn.intercept_methods(note), mock.patch.object(RoICrops, "__call__", crop):
        outputs, _ = detector.apply(variables, batch.images, batch.image_hw, targets, keys, mutable=["batch_stats"])
    if training:
        stage = outputs.stages[0]
        seen["sampling"] = outputs.rpn.samples, stage.rois, stage.targets
        seen["guide"] = stage.guide_logits
        seen["attention"] = seen["attention"]._replace(guide_logits=None)
    return outputs, seen


def prefix(detector: Detector, config: ConfigDict, stage: str, training: bool) -> Callable[[dict, Batch], Any]:
    """The forward pass up to the end of `stage`: (variables, batch) -> the results of all its stages."""
    order = TRAINING if training else INFERENCE

    def run(variables: dict, batch: Batch) -> Any:
        outputs, seen = observe(detector, variables, batch, training)
        if stage == "losses":
            return detection_losses(detector.stages, outputs, batch.targets, config.losses.to_dict())["total"]
        if stage == "detections":
            return detect(outputs, batch.image_hw, **config.inference)
        return [seen[name] for name in order[: order.index(stage) + 1] if name in seen]

    return run


def total(tree: Any) -> jax.Array:
    """Sum of all differentiable values."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return sum(leaf.astype(jnp.float32).sum() for leaf in leaves)


def stages(args: argparse.Namespace, dtype: str, training: bool) -> Iterator[dict]:
    """Training: stages on one device, and the whole step on all devices."""
    config = recipe(args, dtype=dtype)
    detector = build_detector(config.model, NUM_CLASSES)
    variables, batch = init_variables(detector, 0), random_batch(args)
    mine = jax.tree.map(lambda leaf: leaf[0], batch)
    order = [s for s in (TRAINING if training else INFERENCE) if s != "guide" or config.model.attention == "lga"]
    forward, backward, calls, memory = {}, {}, {}, {}
    for stage in order:
        forward[stage] = run = prefix(detector, config, stage, training)
        calls[stage, "forward"], memory[stage, "forward"] = _compile(run, variables, mine)
        if training and stage not in WITHOUT_GRADIENT:
            backward[stage] = gradient = _gradient(run, variables)
            calls[stage, "backward"], memory[stage, "backward"] = _compile(gradient, variables["params"], mine)
    whole, flops = (
        train_step(config, detector, variables, batch) if training else _predict(config, detector, variables, batch)
    )
    taken = timing.in_turn(calls | {"whole": whole}, args.rounds)

    what = "Training step" if training else "Inference"
    hw = " x ".join(args.image_hw.split(","))
    rule = {
        "table": f"{what} by stages: {_name(args)}, attention {config.model.attention}, {args.images} x {hw}, {dtype}"
    }
    rounds = len(taken["whole"])
    before, before_both, known = [0.0] * rounds, [0.0] * rounds, {"forward": 0.0, "backward": 0.0}
    median_whole = statistics.median(taken["whole"])
    for stage in order:
        row = rule | {"what": stage}
        seconds = taken[stage, "forward"]
        row["forward, ms"] = only_forward = 1e3 * _median_difference(seconds, before)
        count = timing.matmul_flops(forward[stage], variables, mine)
        row["forward GFLOP"], known["forward"] = (count - known["forward"]) / 1e9, count
        of_stage = only_forward
        if stage in backward:
            both = taken[stage, "backward"]
            count_both = timing.matmul_flops(backward[stage], variables["params"], mine)
            # The stage's share of both passes, minus its share of the forward pass.
            added = [(b - b0) - (f - f0) for b, b0, f, f0 in zip(both, before_both, seconds, before, strict=True)]
            row["backward, ms"] = 1e3 * statistics.median(added)
            row["backward GFLOP"] = (count_both - count) / 1e9 - known["backward"]
            known["backward"] = (count_both - count) / 1e9
            of_stage += row["backward, ms"]
            before_both = both
        elif training:  # forward work only, which is part of the next gradient
            before_both = [b + s - s0 for b, s, s0 in zip(before_both, seconds, before, strict=True)]
        before = seconds
        gflop = row["forward GFLOP"] + row.get("backward GFLOP", 0.0)
        row["share of the whole"] = of_stage / 1e3 / median_whole
        if gflop > 0.01 and of_stage > 0:
            row["share of peak"] = gflop / (of_stage / 1e3) / args.machine.gflops[dtype]
        row["temporary MiB so far"] = memory.get((stage, "backward"), memory[stage, "forward"])
        yield row
    if training:
        rest = _median_difference(taken["whole"], taken["losses", "backward"])
        yield rule | {
            "what": "optimizer and the rest",
            "forward, ms": 1e3 * rest,
            "share of the whole": rest / median_whole,
        }
    yield rule | {
        "what": "whole step" if training else "whole inference",
        **timing.spread(taken["whole"]),
        "GFLOP": flops / 1e9,
        "share of peak": flops / 1e9 / median_whole / args.machine.gflops[dtype],
        "share of the whole": 1.0,
    }


def _gradient(run: Callable, variables: dict) -> Callable[[Any, Batch], Any]:
    def loss(params: Any, batch: Batch) -> tuple[jax.Array, Any]:
        found = run(variables | {"params": params}, batch)
        return total(found), found

    return jax.value_and_grad(loss, has_aux=True)


def _compile(function: Callable, *args: Any) -> tuple[Callable[[], Any], float]:
    """A call of the compiled function, and its temporary memory in MiB."""
    compiled = jax.jit(function).lower(*args).compile()
    return lambda: compiled(*args), compiled.memory_analysis().temp_size_in_bytes / 2**20


def _median_difference(seconds: list[float], before: list[float]) -> float:
    return statistics.median(s - b for s, b in zip(seconds, before, strict=True))


def train_step(
    config: ConfigDict, detector: Detector, variables: dict, batch: Batch
) -> tuple[Callable[[], Any], float]:
    """A call of the training step, and its FLOPs per device."""
    optimizer = optax.sgd(1e-4, 0.9)
    step = make_train_step(detector, optimizer, config.losses.to_dict(), ema_decay=0.0, seed=0)
    state = create_state(variables, optimizer, ema=False)
    flops = timing.matmul_flops(step, state, batch)
    held = [state]

    def run() -> dict:
        held[0], metrics = step(held[0], batch)  # the state is donated
        return metrics

    return run, flops


def _predict(config: ConfigDict, detector: Detector, variables: dict, batch: Batch) -> tuple[Callable[[], Any], float]:
    step = make_predict_step(detector, config.inference)
    return lambda: step(variables, batch), timing.matmul_flops(step, variables, batch)


def attention(args: argparse.Namespace) -> Iterator[dict]:
    """Whole training steps of all variants, alternating; ratios refer to the first variant of the same dtype."""
    batch, variants, counts, calls, variables = random_batch(args), args.variants.split(","), {}, {}, {}
    keys = [(variant, dtype) for dtype in args.dtypes.split(",") for variant in variants]
    for variant, dtype in keys:
        config = recipe(args, dtype=dtype, attention=variant)
        detector = build_detector(config.model, NUM_CLASSES)
        if variant not in variables:  # parameters are always float32
            variables[variant] = init_variables(detector, 0)
        calls[variant, dtype], counts[variant, dtype] = train_step(config, detector, variables[variant], batch)
    taken = timing.in_turn(calls, args.rounds)
    hw, rois = " x ".join(args.image_hw.split(",")), config.model.roi_sampling.num_samples
    for variant, dtype in keys:
        seconds = taken[variant, dtype]
        yield {
            "table": f"Training step: {_name(args)}, {args.images} x {hw} a device, {rois} RoIs",
            "what": f"{variant}, {dtype}",
            **timing.spread(seconds),
            f"against {variants[0]}": timing.ratio(seconds, taken[variants[0], dtype]),
            "images/s": args.images * len(batch.index) / statistics.median(seconds),
            "GFLOP": counts[variant, dtype] / 1e9,
            "share of peak": counts[variant, dtype] / 1e9 / statistics.median(seconds) / args.machine.gflops[dtype],
        }


def _name(args: argparse.Namespace) -> str:
    return " ".join([args.config, *(word.removeprefix("--config.") for word in args.overrides if word not in TINY)])


if __name__ == "__main__":
    timing.main(rows, __doc__, add_arguments)
