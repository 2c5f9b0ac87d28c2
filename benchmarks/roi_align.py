"""Time and temporary memory of RoIAlign: 512 RoIs on P2-P5 of an 800 x 1344 image, 256 channels, float32.

    python -m benchmarks.roi_align

Reports the median of `--repeats` runs after one that warms up, forward and forward + backward, and what XLA's own
memory analysis says about temporary buffers.
"""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from lga_jax.ops.roi_align import multilevel_roi_align

REPEATS = flags.DEFINE_integer("repeats", 15, "Timed runs.")
ROIS = flags.DEFINE_integer("rois", 512, "RoIs.")
HEIGHT, WIDTH, CHANNELS, STRIDES = 800, 1344, 256, (4, 8, 16, 32)


def inputs(num_rois: int) -> tuple[list[jax.Array], jax.Array]:
    """Features, and boxes whose sizes are spread evenly over the octaves of the four levels."""
    random = np.random.default_rng(0)
    features = [jnp.asarray(random.normal(size=(-(-HEIGHT // s), WIDTH // s, CHANNELS)), jnp.float32) for s in STRIDES]
    sizes = 2.0 ** random.uniform(5, 9.5, (num_rois, 2))
    centres = random.uniform((0, 0), (WIDTH, HEIGHT), (num_rois, 2))
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    return features, jnp.asarray(boxes.clip(0, [WIDTH, HEIGHT, WIDTH, HEIGHT]), jnp.float32)


def report(name: str, function, *arguments: object) -> None:
    compiled = jax.jit(function).lower(*arguments).compile()
    jax.block_until_ready(compiled(*arguments))
    times = []
    for _ in range(REPEATS.value):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        times.append(1e3 * (time.perf_counter() - start))
    temporary = compiled.memory_analysis().temp_size_in_bytes / 2**20
    print(
        f"{name:18} median {statistics.median(times):7.1f} ms   "
        f"(min {min(times):.1f}, max {max(times):.1f})   temporary {temporary:6.1f} MiB"
    )


def main(_: list[str]) -> None:
    features, boxes = inputs(ROIS.value)
    weight = jnp.asarray(np.random.default_rng(1).normal(size=(ROIS.value, 7, 7, CHANNELS)), jnp.float32)

    def align(features: list[jax.Array], boxes: jax.Array) -> jax.Array:
        return multilevel_roi_align(features, boxes, strides=STRIDES, crop_size=7, sampling_ratio=2, aligned=True)

    where = f"{jax.devices()[0]}, jax {jax.__version__}"
    print(f"{ROIS.value} RoIs, P2-P5 of {HEIGHT} x {WIDTH}, {CHANNELS} channels, {where}")
    report("forward", align, features, boxes)
    loss = jax.value_and_grad(lambda features, boxes, weight: jnp.vdot(align(features, boxes), weight))
    report("forward + backward", loss, features, boxes, weight)


if __name__ == "__main__":
    app.run(main)
