"""Scaling with image area, RoIs, objects, classes, batch and devices; goal: at most 2.1 times per doubling.

    python -m benchmarks.scaling [--only area,rois]

Each point is the training step of `configs/challenge.py` with one size doubled repeatedly; the other sizes are 160 x
160 pixels, 2 images, 64 RoIs, 20 objects, 80 classes, one device. Virtual devices share the cores of the
processor and process one image each, so the work doubles with their number.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

from benchmarks import step, timing
from configs import challenge
from lga_jax.models.build import build_detector, init_variables
from lga_jax.models.detector import Detector

matplotlib.use("Agg")
import matplotlib.pyplot as plt

GOAL = 2.1
# Axis -> label and sizes; area: pixels of one image.
AXES = {
    "area": ("image area, pixels", (128 * 256, 256 * 256, 256 * 512, 512 * 512)),
    "rois": ("RoIs of an image", (128, 256, 512)),
    "objects": ("objects of an image", (32, 64, 128)),
    "classes": ("classes", (80, 160, 320)),
    "batch": ("images", (2, 4, 8)),
    "devices": ("virtual devices, an image each", (1, 2, 4, 8)),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", default=",".join(AXES), help=f"Some of {', '.join(AXES)}.")


def rows(args: argparse.Namespace) -> Iterator[dict]:
    for axis in args.only.split(","):
        label, sizes = AXES[axis]
        sizes = sizes[:2] if args.quick else sizes
        if axis == "devices":
            if jax.devices()[0].platform != "cpu":
                continue  # the number of real devices is fixed
            taken = [_on_virtual_devices(size, args.rounds) for size in sizes]
        else:
            taken = _seconds(axis, sizes, args.rounds)
        for i, (size, seconds) in enumerate(zip(sizes, taken, strict=True)):
            row = {"table": f"Time over {label}", "what": f"{size:,}", **timing.spread(seconds)}
            if i:
                row |= {"against half": timing.ratio(seconds, taken[i - 1]), "goal": f"<= {GOAL}"}
            yield row


def _seconds(axis: str, sizes: tuple[int, ...], rounds: int) -> list[list[float]]:
    """Seconds of the step for every size of one axis, measured in turn."""
    calls = {}
    for size in sizes:
        here = {"area": 160 * 160, "rois": 64, "objects": 20, "classes": 80, "batch": 2, "devices": 0} | {axis: size}
        config = challenge.get_config()
        config.model.roi_sampling.num_samples = here["rois"]
        config.model.proposals.post_nms_train = max(200, here["rois"])
        height = 2 ** int(np.log2(here["area"]) / 2) if axis == "area" else 160
        flags = argparse.Namespace(
            image_hw=f"{height},{here['area'] // height}", images=1 if here["devices"] else here["batch"]
        )
        detector = build_detector(config.model, here["classes"])
        batch = step.random_batch(flags, here["objects"])
        calls[size], _ = step.train_step(config, detector, _variables(detector), batch)
    return list(timing.in_turn(calls, rounds).values())


def _variables(detector: Detector) -> dict:
    """Random kernels of the usual size, scales 1, biases 0; `init_variables` takes longer than the measurement."""
    random = np.random.default_rng(0)

    def fill(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        if path[-1].key == "kernel":
            return jnp.asarray(random.standard_normal(leaf.shape, np.float32) / np.sqrt(np.prod(leaf.shape[:-1])))
        return jnp.full(leaf.shape, float(path[-1].key in ("scale", "var")), leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, jax.eval_shape(lambda: init_variables(detector, 0)))


def _on_virtual_devices(num: int, rounds: int) -> list[float]:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={num}"
    (seconds,) = timing.results(timing.start("scaling", "--measure", str(num), str(rounds), env={"XLA_FLAGS": flags}))
    return seconds


def plots(rows: list[dict], folder: Path) -> list[str]:
    """Small multiples, both axes logarithmic, with the line of proportional growth through the last point."""
    tables: dict[str, list[dict]] = {}
    for row in rows:
        tables.setdefault(row["table"], []).append(row)
    columns = min(3, len(tables))
    lines = -(-len(tables) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(3.2 * columns, 2.6 * lines), squeeze=False)
    for axis in axes.flat[len(tables) :]:
        axis.set_visible(False)
    for axis, (table, points) in zip(axes.flat, tables.items(), strict=False):
        x = [int(point["what"].replace(",", "")) for point in points]
        middle, low, high = ([point[f"{name}, ms"] for point in points] for name in ("median", "min", "max"))
        axis.plot(x, [middle[-1] * size / x[-1] for size in x], color="0.7", linestyle="--", label="proportional")
        axis.fill_between(x, low, high, color="C0", alpha=0.2, linewidth=0)
        axis.plot(x, middle, "o-", color="C0", markersize=3, label="measured")
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        axis.set_xticks(x, [f"{size // 1024}K" if size >= 4096 else str(size) for size in x])
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_xlabel(table.removeprefix("Time over "))
        axis.set_ylabel("ms")
    axes[0, 0].legend(frameon=False, fontsize="small")
    figure.tight_layout()
    figure.savefig(folder / "scaling.png", dpi=110)
    plt.close(figure)
    return ["scaling.png"]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:  # the process with virtual devices
        devices, rounds = map(int, sys.argv[2:])
        print(json.dumps(*_seconds("devices", (devices,), rounds)))
    else:
        timing.main(rows, __doc__, add_arguments)
