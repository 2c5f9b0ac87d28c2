"""One run of the study: trains a row on a data set from a seed, scores it, and appends one line to runs.jsonl.

studies/attention starts it as a process of its own: python -m studies.attention.run JOB, JOB being JSON. By hand the
same command with the JOB that stands in the first line of the run's log.
"""

import contextlib
import fcntl
import hashlib
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from lga_jax.checkpoints.initial import open_weights
from lga_jax.data.augment.view import evaluation_view
from lga_jax.data.batches.fill import empty_batch, write_image
from lga_jax.data.batches.loader import TrainLoader
from lga_jax.data.source import Source, open_source
from lga_jax.evaluation.evaluate import EvalResult, score_source
from lga_jax.evaluation.mask_hits import CROP_SIZE, true_positives
from lga_jax.inference.step import make_predict_step
from lga_jax.models.build import init_variables
from lga_jax.models.detector import Detector
from lga_jax.models.freezing import frozen_labels
from lga_jax.structs import Batch, Gaussians, RoIs, TrainState
from lga_jax.train.optimizer import make_optimizer
from lga_jax.train.step import create_state, make_train_step
from lga_jax.weights.load import load_pretrained
from studies.attention.rows import ROWS, Row, digest, resolve
from studies.attention.variants import build_row
from studies.attention.workdir import CachedSource

PROBE_IMAGES = 24
PROBE_EVERY = 50  # steps
STEP_SEED = 0  # of the samples drawn inside the step: a constant of the compiled program, so that seeds share it


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Trains and scores; returns what becomes the line. Writes the parameters and the progress on its way."""
    started, spent = time.monotonic(), time.process_time()
    workdir, row = Path(job["workdir"]), ROWS[job["row"]]
    config = resolve(job["data"], row, job["root"], job["weights"], job["overrides"])
    config.seed = job["seed"]
    train_source, eval_source = (
        CachedSource(open_source(**config.data[part]), workdir / "images") for part in ("train", "eval")
    )
    detector = build_row(config, row, len(train_source.class_names))
    state, optimizer = _start(detector, train_source, config, row)
    train_step = make_train_step(
        detector, optimizer, config.losses.to_dict(), ema_decay=config.optim.ema_decay, seed=STEP_SEED
    )
    probe = _make_probe(detector, eval_source, config)
    loader = TrainLoader(train_source, config.data, config.seed, config.batch_size, 0, jax.local_devices())
    trace, losses, waits = [], defaultdict(list), []
    with closing(loader):
        for step in range(config.num_steps + 1):
            if step % PROBE_EVERY == 0 or step == config.num_steps:
                jax.block_until_ready(state.params)
                with _not_counted(waits):
                    trace += [{"step": step, **found} for found in probe(state)]
                _report_progress(workdir, job, step)
            if step == config.num_steps:
                break
            state, metrics = train_step(state, next(loader))
            if step == 0:
                jax.block_until_ready(metrics)
                training, training_cpu = time.monotonic(), time.process_time()
                waits.clear()
            if step % PROBE_EVERY == PROBE_EVERY - 1:
                for name, value in metrics.items():
                    losses[name].append(round(float(value), 5))
                if not np.isfinite(losses["total"][-1]):
                    raise FloatingPointError(f"step {step + 1}: the loss is {losses['total'][-1]}")
    num_images = (config.num_steps - 1) * config.batch_size
    clock, cpu = np.array([time.monotonic() - training, time.process_time() - training_cpu]) - np.sum(waits, axis=0)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    _save(variables, params_path(workdir, job["data"], job["row"], job["seed"]))
    result = score_source(
        make_predict_step(detector, config.inference.to_dict()),
        variables,
        eval_source,
        config.data,
        4 * config.batch_size,
        should_stop=lambda: False,
        progress=False,
    )
    return {
        "data": job["data"],
        "row": job["row"],
        "seed": job["seed"],
        "digest": digest(config, row),
        "settings": row._replace(text="")._asdict(),
        **{name: round(result.summary[name], 5) for name in ("AP", "AP50", "AP75")},
        "per_class": {name: round(value, 5) for name, value in result.per_class.items()},
        "challenges": [entry._asdict() for entry in result.challenges],
        "attention": describe_attention(result, eval_source),
        "trace": trace,
        "losses": dict(losses),
        "num_parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(time.process_time() - spent, 1),
        "images_per_second": round(num_images / max(clock, 1e-9), 2),
        "images_per_cpu_second": round(num_images / max(cpu, 1e-9), 2),  # what a core to itself would give
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


def describe_attention(result: EvalResult, source: Source) -> dict[str, Any] | None:
    """The library's statistics, and what the study asks beyond them; None without masks.

    hit_rate_elsewhere: how often the centres of ANOTHER true positive, at the same places of its RoI, would hit. What a
        hit rate has above it, the masks owe to what they see, and not to where parts usually are.
    hit_rate_per_class: any of the masks, by class of the object.
    moves: standard deviation of a mask's centre over the true positives, in cells of 7, mean of both axes, per mask.
    mean_centres, mean_sigmas: per mask, over the true positives, in cells of 7.
    """
    masked = [detection for detection in result.detections if "mask_centres" in detection]
    if not masked:
        return None
    truth = source.coco_json()
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


def params_path(workdir: Path, data: str, row: str, seed: int) -> Path:
    return workdir / "params" / f"{data}_{row}_{seed}.msgpack"


def _start(
    detector: Detector, source: Source, config: ConfigDict, row: Row
) -> tuple[TrainState, optax.GradientTransformation]:
    variables = init_variables(detector, config.seed)
    if config.model.init_from:
        weights = open_weights(config.model.init_from)
        variables, _ = load_pretrained(weights, variables, source.class_names, config.model.to_dict())
    labels = frozen_labels(variables["params"], detector.backbone)
    optimizer, _ = make_optimizer(config.optim, config.batch_size, config.num_steps, labels)
    if row.centre_lr != 1.0:
        optimizer = optax.chain(optimizer, optax.masked(optax.scale(row.centre_lr), _gives_centres))
    return create_state(variables, optimizer, ema=config.optim.ema_decay > 0), optimizer


def _gives_centres(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, _: any("centres" in str(getattr(key, "key", "")) for key in path), params
    )


def _make_probe(detector: Detector, source: Source, config: ConfigDict) -> Callable[[TrainState], list[dict]]:
    """What the masks do on the true boxes of the first images of the held-out set: the same RoIs at every step.

    Nothing for detectors without masks.
    """
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
    pyramid = detector.fpn(detector.backbone(images, False), False)
    boxes, valid = jnp.asarray(batch.targets.boxes), jnp.asarray(batch.targets.valid)
    rois = RoIs(boxes, jnp.zeros(valid.shape), valid)
    return detector.stages[0]({"pyramid": lambda: pyramid[:-1]}, rois, None, None).gaussians


def _code_digest() -> str:
    """Of the sources of the library and of what trains here: tells apart lines that different programs wrote."""
    root = Path(__file__).parents[2]
    own = (root / "studies" / "attention" / f"{name}.py" for name in ("workdir", "rows", "run", "variants"))
    files = sorted([*root.glob("lga_jax/**/*.py"), *own])
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


@contextlib.contextmanager
def _not_counted(waits: list[tuple[float, float]]) -> Iterator[None]:
    clock, cpu = time.monotonic(), time.process_time()
    yield
    waits.append((time.monotonic() - clock, time.process_time() - cpu))


def _save(variables: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(flax.serialization.to_bytes(jax.device_get(variables)))
    part.replace(path)


def _report_progress(workdir: Path, job: dict[str, Any], step: int) -> None:
    path = workdir / "progress" / job["name"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(step))


def _append(workdir: Path, line: dict[str, Any]) -> None:
    """In one write under a lock: runs end at the same time."""
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
    main()
