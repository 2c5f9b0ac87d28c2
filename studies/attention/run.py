"""One run of the study: trains a row on a data set from a seed, scores it, and appends one line to runs.jsonl.

The study starts it as a separate process: python -m studies.attention.run JOB, with JOB as JSON. To repeat a run by
hand, use the JOB in the first line of its log.
"""

import contextlib
import fcntl
import hashlib
import json
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from lga_jax.data.augment.view import evaluation_view
from lga_jax.data.batches.fill import empty_batch, write_image
from lga_jax.data.source import Source
from lga_jax.evaluation.evaluate import EvalResult
from lga_jax.evaluation.mask_hits import CROP_SIZE, true_positives
from lga_jax.models.detector import Detector
from lga_jax.models.roi.crops import Levels
from lga_jax.structs import Batch, Gaussians, RoIs, TrainState
from lga_jax.terminal import safe_output
from lga_jax.training.run import Run, open_run
from studies.attention.rows import ROWS, Row, digest, resolve
from studies.attention.variants import build_row, extra_losses
from studies.attention.workdir import open_sources

PROBE_IMAGES = 24
PROBE_EVERY = 50  # steps
SAMPLING_SEED = 0  # equal for all seeds of the study, so that they share a compiled program


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Trains and evaluates; returns the line for runs.jsonl. The files of the run are in `run_folder`."""
    started, spent = time.monotonic(), time.process_time()
    workdir, row = Path(job["workdir"]), ROWS[job["row"]]
    config = resolve(job["data"], row, job["root"], job["weights"], job["overrides"])
    config.seed = job["seed"]
    train_source, eval_source = open_sources(job["data"], config, workdir / "images")
    detector = build_row(config, row, len(train_source.class_names))
    folder = run_folder(workdir, job["data"], job["row"], job["seed"])
    shutil.rmtree(folder, ignore_errors=True)  # a failed run starts again from its first step
    with open_run(
        config,
        str(folder),
        source=train_source,
        eval_source=eval_source,
        detector=detector,
        extra_losses=extra_losses(row),
        after_optimizer=_scale_of_centres(row),
        sampling_seed=SAMPLING_SEED,
    ) as training:
        probe = _make_probe(detector, eval_source, config)
        watched = _watch(training, probe, lambda step: _report_progress(workdir, job, step))
    if training.result is None:
        raise RuntimeError(f"stopped after step {training.step}")
    return {
        "data": job["data"],
        "row": job["row"],
        "seed": job["seed"],
        "digest": digest(config, row),
        "settings": row._replace(text="")._asdict(),
        **describe_result(training.result, eval_source),
        **watched,
        "num_parameters": sum(leaf.size for leaf in jax.tree.leaves(training.state.params)),
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(time.process_time() - spent, 1),
        "num_steps": config.num_steps,
        "batch_size": config.batch_size,
        "versions": {
            "python": sys.version.split()[0],
            "jax": jax.__version__,
            "flax": flax.__version__,
            "code": _code_digest(),
        },
        "config": json.loads(config.to_json_best_effort()),
    }


def _watch(training: Run, probe: Callable[[TrainState], list[dict]], report: Callable[[int], None]) -> dict[str, Any]:
    """Trains; returns masks and losses during training, and images per second without the time to record them.

    The first step (warm-up) and the last step (saving) are not measured.
    """
    last, clock = training.recipe.num_steps, _Clock()
    trace = [{"step": 0, **found} for found in probe(training.state)]
    losses = defaultdict(list)
    for step, metrics in training:
        if step in (1, last - 1):
            jax.block_until_ready(metrics)
            clock.go() if step == 1 else clock.stop()
        if step % PROBE_EVERY == 0:
            for name, value in metrics.items():
                losses[name].append(round(float(value), 5))
        if step % PROBE_EVERY == 0 or step == last:
            jax.block_until_ready(metrics)
            with clock.paused():
                trace += [{"step": step, **found} for found in probe(training.state)]
            report(step)
    num_images = max(0, last - 2) * training.recipe.batch_size
    return {
        "trace": trace,
        "losses": dict(losses),
        "images_per_second": round(num_images / max(clock.seconds, 1e-9), 2),
        "images_per_cpu_second": round(num_images / max(clock.cpu_seconds, 1e-9), 2),  # with one core per run
    }


class _Clock:
    """Wall-clock and CPU seconds between go and stop."""

    def __init__(self) -> None:
        self.seconds = self.cpu_seconds = 0.0
        self._since: tuple[float, float] | None = None

    def go(self) -> None:
        self._since = time.monotonic(), time.process_time()

    def stop(self) -> None:
        if self._since:
            self.seconds += time.monotonic() - self._since[0]
            self.cpu_seconds += time.process_time() - self._since[1]
        self._since = None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        running = self._since is not None
        self.stop()
        yield
        if running:
            self.go()


def describe_result(result: EvalResult, source: Source) -> dict[str, Any]:
    """The scores of a run."""
    return {
        **{name: round(result.summary[name], 5) for name in ("AP", "AP50", "AP75")},
        "per_class": {name: round(value, 5) for name, value in result.per_class.items()},
        "challenges": [entry._asdict() for entry in result.challenges],
        "attention": describe_attention(result, source),
    }


def describe_attention(result: EvalResult, source: Source) -> dict[str, Any] | None:
    """Attention statistics of the library and of the study; None without masks.

    hit_rate_elsewhere: hit rate with the centres of another true positive at the same relative positions of the RoI. A
        higher hit_rate comes from the features, not from the usual position of parts.
    hit_rate_per_class: hit rate of any mask, by class.
    moves: standard deviation of a mask's centre over the true positives, in cells of 7, mean of both axes, per mask.
    mean_centres, mean_sigmas: per mask, over the true positives, in cells of 7.
    """
    masked = [detection for detection in result.detections if "mask_centres" in detection]
    if not masked:
        return None
    truth = source.truth()
    pairs = true_positives([box for box in truth["annotations"] if not box.get("iscrowd", 0)], masked)
    if not pairs:
        return None
    rois = np.array([detection["roi"] for _, detection in pairs])
    extent = np.maximum(rois[:, None, 2:], 1e-9)
    centres = (np.array([detection["mask_centres"] for _, detection in pairs]) - rois[:, None, :2]) / extent
    sigmas = np.array([detection["mask_sigmas"] for _, detection in pairs]) / extent
    found = {
        "num_true_positives": len(pairs),
        "spread": float(np.linalg.norm(centres - centres.mean(axis=1, keepdims=True), axis=-1).mean()) * CROP_SIZE,
        "moves": (centres.std(axis=0).mean(axis=-1) * CROP_SIZE).round(4).tolist(),
        "mean_centres": (centres.mean(axis=0) * CROP_SIZE).round(3).tolist(),
        "mean_sigmas": (sigmas.mean(axis=0) * CROP_SIZE).round(3).tolist(),
    }
    if result.attention is None:
        return found
    parts = np.array([box["part_bbox"] for box, _ in pairs])
    low = (parts[:, None, :2] - rois[:, None, :2]) / extent
    high = low + parts[:, None, 2:] / extent
    others = centres[np.random.default_rng(0).permutation(len(pairs))]
    hits, elsewhere = (((c >= low) & (c <= high)).all(axis=-1) for c in (centres, others))
    names = {category["id"]: category["name"] for category in truth["categories"]}
    classes = np.array([names[box["category_id"]] for box, _ in pairs])
    return {
        **result.attention._asdict(),
        **found,
        "hit_rate_elsewhere": float(elsewhere.any(axis=1).mean()),
        "hit_rate_elsewhere_per_mask": elsewhere.mean(axis=0).round(4).tolist(),
        "hit_rate_per_class": {name: float(hits[classes == name].any(axis=1).mean()) for name in sorted(set(classes))},
    }


def run_folder(workdir: Path, data: str, row: str, seed: int) -> Path:
    """The folder of a run and its checkpoints."""
    return workdir / "runs" / f"{data}_{row}_{seed}"


def _scale_of_centres(row: Row) -> optax.GradientTransformation | None:
    return optax.masked(optax.scale(row.centre_lr), _gives_centres) if row.centre_lr != 1.0 else None


def _gives_centres(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, _: any("centres" in str(getattr(key, "key", "")) for key in path), params
    )


def _make_probe(detector: Detector, source: Source, config: ConfigDict) -> Callable[[TrainState], list[dict]]:
    """Masks on the true boxes of the first held-out images, the same RoIs at every step; empty without masks."""
    indices = range(min(PROBE_IMAGES, len(source.records)))
    slots = max(len(source.records[index].labels) for index in indices)
    (bucket_hw,) = config.data.buckets
    batch = empty_batch(len(indices), bucket_hw, slots)
    for index in indices:
        record = source.records[index]
        view = evaluation_view((record.height, record.width), bucket_hw, config.data)
        write_image(batch, index, index, record, source.image(index), view, config.data.resize)
    valid = np.asarray(batch.targets.valid)

    @jax.jit
    def gaussians(variables: Any) -> Gaussians | None:
        return detector.apply(variables, batch, method=_gaussians_of_true_boxes)

    def probe(state: TrainState) -> list[dict]:
        found = gaussians({"params": state.params, "batch_stats": state.batch_stats})
        if found is None:
            return []
        cells = CROP_SIZE / found.masks.shape[-1]
        centres, sigmas = np.asarray(found.centres)[valid] * cells, np.asarray(found.sigmas)[valid] * cells
        apart = np.linalg.norm(centres - centres.mean(axis=1, keepdims=True), axis=-1)
        return [
            {
                "centres": centres.mean(axis=0).round(3).tolist(),
                "moves": centres.std(axis=0).round(3).tolist(),
                "sigmas": sigmas.mean(axis=0).round(3).tolist(),
                "spread": round(float(apart.mean()), 4),
            }
        ]

    return probe


def _gaussians_of_true_boxes(detector: Detector, batch: Batch) -> Gaussians | None:
    images = detector.normalise(jnp.asarray(batch.images), jnp.asarray(batch.image_hw))
    features = detector.backbone(images, False)
    pyramid = detector.fpn(features, False)
    levels = Levels(pyramid[:-1], features[0])
    boxes, valid = jnp.asarray(batch.targets.boxes), jnp.asarray(batch.targets.valid)
    rois = RoIs(boxes, jnp.zeros(valid.shape), valid)
    return detector.stage(0)(levels, rois, None, None).gaussians


def _code_digest() -> str:
    """Digest of the source code of the library and the study, to distinguish results of different versions."""
    root = Path(__file__).parents[2]
    own = (root / "studies" / "attention" / f"{name}.py" for name in ("workdir", "rows", "run", "variants"))
    files = sorted([*root.glob("lga_jax/**/*.py"), *own])
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def _report_progress(workdir: Path, job: dict[str, Any], step: int) -> None:
    path = workdir / "progress" / job["name"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(step))


def _append(workdir: Path, line: dict[str, Any]) -> None:
    """Appends the line in one write under a lock, because several runs may end at the same time."""
    with (workdir / "runs.jsonl").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write((json.dumps(line) + "\n").encode())


def main() -> None:
    job = json.loads(sys.argv[1])
    print(sys.argv[1], flush=True)
    line = run(job)
    _append(Path(job["workdir"]), line)
    print(f"AP {line['AP']:.4f} in {line['seconds']:.0f} s, {line['images_per_second']:.1f} images/s")


if __name__ == "__main__":
    with safe_output():
        main()
