"""Time and operations that each form of attention adds to a training step and to a prediction of a ResNet-50.

    python -m studies.attention.cost --rows none,lga,close_up_guide,close_up_small

Whole programs of `none` are measured once with 512 RoIs on one image of 512 x 512. For every row the RoI stage's part
is compiled alone, on features of that image: crops, attention, and in training the guide's logits and the gradient in
features and parameters. The cost of a row is the part of the row minus the part of `none`, relative to the whole
program. All programs run in turn (A B A B ...) and the CPU time of the process counts, not the time that passes, so
other work on the machine disturbs less. Operations are those of XLA's cost analysis, which do not depend on the
machine's load; the body of a loop counts once.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.stages import Compiled
from jaxtyping import Array, Float

from configs import coco
from lga_jax.inference.step import device_predictions
from lga_jax.models.build import init_variables
from lga_jax.models.roi.crops import Levels, RoICrops
from lga_jax.structs import Batch, Targets
from lga_jax.terminal import safe_output
from lga_jax.training.step import create_state, make_train_step
from studies.attention.rows import ROWS, set_row
from studies.attention.variants import build_row

NUM_CLASSES = 80
BASELINE = "none"


class Size(NamedTuple):
    side: int = 512  # pixels of the square image
    rois: int = 512
    width: int = 64  # channels of the backbone's stem
    channels: int = 256  # of the pyramid


class Cost(NamedTuple):
    """What a row adds to the whole program of `none`, as a ratio to it."""

    training: float
    prediction: float
    training_flops: float
    prediction_flops: float


class Part(NamedTuple):
    """A compiled program with its arguments, and its operations."""

    call: Callable[[], Any]
    flops: float


def recipe(row_name: str, size: Size) -> Any:
    config = coco.get_config()
    set_row(config, ROWS[row_name])
    config.model.backbone.width = size.width
    config.model.fpn.channels = size.channels
    config.model.roi_sampling.num_samples = size.rois
    config.model.proposals.update(post_nms_train=size.rois, post_nms_test=size.rois)
    return config


def parts_of(row_name: str, size: Size) -> tuple[Part, Part]:
    """The RoI stage's part in training and in a prediction: crops, attention, and the gradient or the fused crops.

    The gradient is that of the parameters and of the pyramid; the recipe freezes the backbone's first stage.
    """
    detector = build_row(recipe(row_name, size), ROWS[row_name], NUM_CLASSES)
    stage = detector.stages[0]
    attention, c2, boxes = stage.attention, *_stage_and_boxes(size)

    def crop(pyramid: list[Array], c2: Array, boxes: Array) -> RoICrops:
        return RoICrops(Levels(pyramid, c2), boxes, stage.strides, stage.roi_align)

    def loss(variables: Any, pyramid: list[Array], *fixed: Array) -> Float[Array, ""]:
        found = attention.apply(variables, crop(pyramid, *fixed), True)
        return sum(jnp.square(leaf).sum() for leaf in (found.fused, found.guide_logits) if leaf is not None)

    def predict(variables: Any, pyramid: list[Array], *fixed: Array) -> Array:
        return attention.apply(variables, crop(pyramid, *fixed), False).fused

    def init(pyramid: list[Array], *fixed: Array) -> Any:
        return attention.init(jax.random.key(0), crop(pyramid, *fixed), True)

    inputs = _pyramid(size), c2, boxes
    arguments = jax.jit(init)(*inputs), *inputs
    return tuple(_compiled(function, *arguments) for function in (jax.grad(loss, argnums=(0, 1)), predict))


def _compiled(function: Callable, *arguments: Any) -> Part:
    program = jax.jit(function).lower(*arguments).compile()
    return Part(lambda: program(*arguments), _flops(program))


def _stage_and_boxes(size: Size) -> tuple[Float[Array, "1 _ _ _"], Float[Array, "1 r 4"]]:
    """The first stage's output, and boxes of all sizes."""
    c2 = jax.random.normal(jax.random.key(0), (1, size.side // 4, size.side // 4, 4 * size.width))
    random = np.random.default_rng(0)
    corner, extent = (random.uniform(low, 0.5 * size.side, (1, size.rois, 2)) for low in (0.0, 8.0))
    return c2, jnp.asarray(np.concatenate([corner, corner + extent], axis=-1), jnp.float32)


def _pyramid(size: Size) -> list[Float[Array, "1 _ _ _"]]:
    """The pyramid without its last level."""
    sides = [size.side // stride for stride in (4, 8, 16, 32)]
    return [jax.random.normal(jax.random.key(side), (1, side, side, size.channels)) for side in sides]


def whole_of_none(size: Size) -> tuple[Part, Part]:
    """The whole training step and the whole prediction without attention."""
    config = recipe(BASELINE, size)
    detector = build_row(config, ROWS[BASELINE], NUM_CLASSES)
    variables, optimizer = init_variables(detector, 0), optax.sgd(1e-4, 0.9)
    batch = _random_batch(size)
    state = create_state(variables, optimizer, ema=False)
    step = make_train_step(detector, optimizer, config.losses.to_dict(), ema_decay=0.0, seed=0)
    train = step.lower(state, batch).compile()
    one = jax.tree.map(lambda leaf: leaf[0], batch)
    held = [state]

    def run() -> Any:
        held[0], metrics = train(held[0], batch)  # the state is donated
        return metrics

    predict = _compiled(device_predictions(detector, config.inference.to_dict()), variables, one)
    return Part(run, _flops(train)), predict


def _random_batch(size: Size) -> Batch:
    random, lead = np.random.default_rng(0), (1, 1)
    corner, extent = random.uniform(8.0, 0.5 * size.side, (2, *lead, 20, 2))
    return Batch(
        images=random.integers(0, 255, (*lead, size.side, size.side, 3), dtype=np.uint8),
        image_hw=np.full((*lead, 2), size.side, np.float32),
        scale_hw=np.ones((*lead, 2), np.float32),
        targets=Targets(
            boxes=np.concatenate([corner, corner + extent], axis=-1).astype(np.float32),
            labels=random.integers(0, NUM_CLASSES, (*lead, 20)).astype(np.int32),
            valid=np.ones((*lead, 20), bool),
        ),
        index=np.zeros(lead, np.int32),
    )


def measure(rows: Sequence[str], size: Size, rounds: int) -> dict[str, Cost]:
    """The cost of each row; the first must be the baseline."""
    whole = whole_of_none(size)
    parts = {row: parts_of(row, size) for row in rows}
    calls = {("whole", kind): part.call for kind, part in enumerate(whole)}
    calls |= {(row, kind): part.call for row, both in parts.items() for kind, part in enumerate(both)}
    taken = _in_turn(calls, rounds)

    def added(row: str, kind: int) -> float:
        own, base, total = (taken[name, kind] for name in (row, BASELINE, "whole"))
        return statistics.median((o - b) / t for o, b, t in zip(own, base, total, strict=True))

    def added_flops(row: str, kind: int) -> float:
        return (parts[row][kind].flops - parts[BASELINE][kind].flops) / whole[kind].flops

    return {row: Cost(*(f(row, kind) for f in (added, added_flops) for kind in (0, 1))) for row in rows}


def _flops(program: Compiled) -> float:
    return float(program.cost_analysis()["flops"])


def _in_turn(calls: Mapping[Any, Callable[[], Any]], rounds: int) -> dict[Any, list[float]]:
    """CPU seconds of each call by name, one number per round, after one call for warm-up."""
    taken: dict[Any, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = time.process_time()
            jax.block_until_ready(call())
            if number:
                taken[name].append(time.process_time() - start)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="none,lga,close_up_guide,close_up_small", help="none and others")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="one JSON object per row")
    given = parser.parse_args()
    rows = list(dict.fromkeys([BASELINE, *given.rows.split(",")]))
    costs = measure(rows, Size(), given.rounds)
    if given.json:
        print(*(json.dumps({"row": row, **cost._asdict()}) for row, cost in costs.items()), sep="\n")
        return
    print("| row | training step | prediction | operations: step | prediction |", "|---|---|---|---|---|", sep="\n")
    for row, cost in costs.items():
        print(f"| `{row}` | {' | '.join(f'{1 + value:.3f}' for value in cost)} |")


if __name__ == "__main__":
    with safe_output():
        main()
