"""What attention adds to the training step: every block against `none`, in turn within one run.

    python -m benchmarks.attention_cost --config configs/coco.py --image_hw 512,512 --images 1

Steps of the variants alternate (A B C D A B C D ...), so that a machine that drifts drifts for all of them; the table
gives medians and the median of the ratios within a round.
"""

import statistics
import time

import jax
import numpy as np
import optax
from absl import app, flags
from ml_collections import config_flags

from lga_jax.models.detector import build_detector
from lga_jax.structs import Batch, Targets
from lga_jax.train.step import create_state, init_variables, make_train_step

CONFIG = config_flags.DEFINE_config_file("config", "configs/coco.py", "Recipe.")
IMAGE_HW = flags.DEFINE_list("image_hw", ["512", "512"], "Padded height,width in pixels.")
IMAGES = flags.DEFINE_integer("images", 1, "Images per device.")
ROUNDS = flags.DEFINE_integer("rounds", 7, "Timed steps of each variant.")
VARIANTS = flags.DEFINE_list("variants", ["none", "lga", "cbam", "non_local"], "Values of model.attention.")


def random_batch(num_classes: int) -> Batch:
    random = np.random.default_rng(0)
    hw = tuple(int(side) for side in IMAGE_HW.value)
    lead = (jax.local_device_count(), IMAGES.value)
    corners = random.uniform(0, 0.6 * min(hw), (*lead, 20, 2))
    boxes = np.concatenate([corners, corners + random.uniform(16, 0.4 * min(hw), (*lead, 20, 2))], axis=-1)
    return Batch(
        images=random.integers(0, 255, (*lead, *hw, 3), dtype=np.uint8),
        image_hw=np.full((*lead, 2), hw, np.float32),
        scale_hw=np.ones((*lead, 2), np.float32),
        targets=Targets(
            boxes=boxes.astype(np.float32),
            labels=random.integers(0, num_classes, (*lead, 20)).astype(np.int32),
            valid=np.ones((*lead, 20), bool),
        ),
        index=np.zeros(lead, np.int32),
    )


def main(_: list[str]) -> None:
    num_classes = 80
    batch = random_batch(num_classes)
    runs, times = {}, {name: [] for name in VARIANTS.value}
    for name in VARIANTS.value:
        config = CONFIG.value.copy_and_resolve_references()
        config.model.attention = name
        detector = build_detector(config.model, num_classes)
        optimizer = optax.sgd(1e-4, 0.9)
        state = create_state(init_variables(detector, 0), optimizer, ema=False)
        step = make_train_step(detector, optimizer, config.losses, ema_decay=0.0, seed=0)
        state, metrics = jax.block_until_ready(step(state, batch))
        runs[name] = (step, state)
        print(f"{name}: compiled, loss {float(metrics['total']):.3f}", flush=True)
    for _ in range(ROUNDS.value):
        for name in VARIANTS.value:
            step, state = runs[name]
            start = time.perf_counter()
            state, _ = jax.block_until_ready(step(state, batch))
            times[name].append(time.perf_counter() - start)
            runs[name] = (step, state)
    base = times[VARIANTS.value[0]]
    rois = CONFIG.value.model.roi_sampling.num_samples
    print(f"{IMAGES.value} x {'x'.join(IMAGE_HW.value)}, {rois} RoIs, {CONFIG.value.model.dtype}, {jax.devices()[0]}")
    for name, seconds in times.items():
        ratio = statistics.median(t / b for t, b in zip(seconds, base, strict=True))
        print(
            f"{name:10} median {statistics.median(seconds):.3f} s (min {min(seconds):.3f}, max {max(seconds):.3f})   "
            f"against {VARIANTS.value[0]}: {ratio:.3f}"
        )


if __name__ == "__main__":
    app.run(main)
