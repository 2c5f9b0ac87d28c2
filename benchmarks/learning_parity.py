"""Compares learning with torchvision: both train a Faster R-CNN (ResNet-18-FPN, no attention) on BCCD.

    python -m benchmarks.learning_parity --data data/bccd --weights resnet18.npz --workdir runs/learning_parity

For every seed, both start from the same weights (torchvision's random weights, the backbone from --weights), use the
same images at the same size with the same recipe (configs/coco_torchvision_v1.py with the values below), and have the
same evaluator. Each program has its own random generator for loader order, flips and sampling. The runs alternate. Each
writes one line to WORKDIR/results.jsonl, and finished runs are not repeated; the table at the end comes from this file.
For a single run, use --seeds=1 --programs=torchvision. A workdir is for one --data and one --weights.

Needs torch and torchvision (the extra `bench`). torchvision trains on a CUDA device if there is one.
"""

import json
import re
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags
from ml_collections import ConfigDict
from tqdm import tqdm

from configs import coco_torchvision_v1
from lga_jax.data.coco.source import CocoJson
from lga_jax.data.source import open_source
from lga_jax.evaluation.coco import coco_metrics
from lga_jax.training.run import train

DATA = flags.DEFINE_string("data", "data/bccd", "Folder of BCCD as COCO JSON.")
WEIGHTS = flags.DEFINE_string("weights", None, "ImageNet weights of a ResNet-18, whole or partial.", required=True)
WORKDIR = flags.DEFINE_string("workdir", "runs/learning_parity", "Folder of runs and results.")
SEEDS = flags.DEFINE_list("seeds", ["0", "1"], "One run of each program per seed.")
PROGRAMS = flags.DEFINE_list("programs", ["lga_jax", "torchvision"], "Programs to run.")
SHORT_EDGE = flags.DEFINE_integer("short_edge", 240, "Pixels; BCCD's images are 640 x 480.")
EPOCHS = flags.DEFINE_integer("epochs", 6, "Passes over the 292 images.")
ROIS = flags.DEFINE_integer("rois", 128, "Sampled RoIs per image.")
BATCH_SIZE = 4
SETTINGS = ("short_edge", "epochs", "rois")


def recipe(seed: int) -> ConfigDict:
    config = coco_torchvision_v1.get_config()
    short_edge, epochs = SHORT_EDGE.value, EPOCHS.value
    long_edge = -(-short_edge * 4 // 3)
    height, width = (-(-side // 32) * 32 for side in (short_edge, long_edge))
    config.seed = seed
    config.batch_size = BATCH_SIZE
    for part, name in (("train", "trainval"), ("eval", "test")):
        config.data[part].root = DATA.value
        config.data[part].annotations = f"annotations/{name}.json"
        config.data[part].images = "images"
    config.data.short_edges = (short_edge,)
    config.data.eval_short_edge = short_edge
    config.data.long_edge = long_edge
    config.data.buckets = ((height, width),)
    config.data.num_workers = 1
    steps = -(-len(open_source(**config.data.train).records) // BATCH_SIZE)  # in an epoch
    config.num_steps = epochs * steps
    config.checkpoint_every = config.num_steps
    config.eval_every = 0
    config.model.dtype = "float32"
    config.model.backbone.depth = 18
    config.model.roi_sampling.num_samples = ROIS.value
    config.optim.warmup_steps = steps
    config.optim.milestones = (epochs * 4 // 6 * steps, epochs * 5 // 6 * steps)
    return config


def torchvision_detector(config: ConfigDict, num_classes: int) -> Any:
    """torchvision's Faster R-CNN with a ResNet-18-FPN and random weights from torch's seed."""
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops.misc import FrozenBatchNorm2d

    backbone = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3
    )
    return FasterRCNN(
        backbone,
        num_classes=num_classes + 1,
        min_size=config.data.eval_short_edge,
        max_size=config.data.long_edge,
        box_batch_size_per_image=config.model.roi_sampling.num_samples,
    )


def initial_weights(config: ConfigDict, num_classes: int, path: Path) -> None:
    """Initial weights of both programs: torchvision's random weights, with the backbone from --weights."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(config.seed)
    state = torchvision_detector(config, num_classes).state_dict()
    loaded = 0
    with np.load(WEIGHTS.value, allow_pickle=False) as arrays:
        for name in arrays.files:
            key, value = f"backbone.body.{name}", torch.from_numpy(arrays[name])
            folded = re.sub(r"(conv|downsample\.)(\d)\.bias$", _norm_name, key)
            if folded != key:  # the convolution includes the scale of its batch norm; its bias becomes the norm's bias
                key = folded
                state[key.replace(".bias", ".running_var")].fill_(1.0 - 1e-5)
            if key in state:
                state[key].copy_(value)
                loaded += 1
    print(f"{path}: {loaded} arrays of {len(arrays.files)} from {WEIGHTS.value}")
    save_file(state, path)


def _norm_name(conv: re.Match) -> str:
    return "downsample.1.bias" if conv[1] == "downsample." else f"bn{conv[2]}.bias"


def train_lga_jax(config: ConfigDict, weights: Path, workdir: Path) -> tuple[dict, float]:
    """COCO's metrics, and seconds for training and one evaluation."""
    config.model.init_from, config.model.init_strict = str(weights), True
    start = time.monotonic()
    train(config, str(workdir))
    seconds = time.monotonic() - start
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return next(line["eval"] for line in reversed(lines) if "eval" in line), seconds


def train_torchvision(config: ConfigDict, weights: Path) -> tuple[dict, float]:
    """The same with torchvision's detector and a plain torch loop."""
    import torch
    from safetensors.torch import load_file

    torch.manual_seed(config.seed)
    random = np.random.default_rng(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    source, held_out = (open_source(**config.data[part]) for part in ("train", "eval"))
    model = torchvision_detector(config, len(source.class_names))
    model.load_state_dict(load_file(weights), strict=True)
    model.to(device).train()

    def image(of: CocoJson, index: int) -> torch.Tensor:
        return torch.from_numpy(of.image(index).transpose(2, 0, 1).copy()).to(device).float() / 255

    def flipped_half_of_the_time(index: int) -> tuple[torch.Tensor, dict]:
        pixels, record = image(source, index), source.records[index]
        boxes, labels = record.boxes_original[~record.crowd].copy(), record.labels[~record.crowd]
        if random.random() < config.data.flip_probability:
            pixels, boxes[:, [0, 2]] = pixels.flip(-1), record.width - boxes[:, [2, 0]]
        boxes, labels = torch.from_numpy(boxes).float(), torch.from_numpy(labels).long() + 1  # 0: background
        return pixels, {"boxes": boxes.to(device), "labels": labels.to(device)}

    rule = config.optim
    optimizer = torch.optim.SGD(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=rule.lr * BATCH_SIZE / rule.lr_batch_size,
        momentum=rule.momentum,
        weight_decay=rule.weight_decay,
    )
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, rule.warmup_factor, total_iters=rule.warmup_steps)
    decay = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(rule.milestones), rule.decay_factor)
    start, order = time.monotonic(), []
    for _ in tqdm(range(config.num_steps), desc="torchvision", unit="step", mininterval=30):
        if not order:
            epoch = np.resize(
                random.permutation(len(source.records)), -(-len(source.records) // BATCH_SIZE) * BATCH_SIZE
            )
            order = epoch.reshape(-1, BATCH_SIZE).tolist()
        images, targets = zip(*map(flipped_half_of_the_time, order.pop()), strict=True)
        loss = sum(model(list(images), list(targets)).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warmup.step()
        decay.step()

    model.eval()
    truth, results = held_out.truth(), []
    category_ids = {category["name"]: category["id"] for category in truth["categories"]}
    with torch.inference_mode():
        for index, record in enumerate(held_out.records):
            found = model([image(held_out, index)])[0]
            for (x1, y1, x2, y2), label, score in zip(
                found["boxes"].tolist(), found["labels"].tolist(), found["scores"].tolist(), strict=True
            ):
                category = category_ids[held_out.class_names[label - 1]]
                box = [x1, y1, x2 - x1, y2 - y1]
                results.append(dict(image_id=record.image_id, category_id=category, bbox=box, score=score))
    seconds = time.monotonic() - start
    return coco_metrics(truth, results, [record.image_id for record in held_out.records]).summary, seconds


def table(results: list[dict]) -> str:
    lines = [
        "| program | AP, mean (spread) | AP50, mean (spread) | AP of each seed |",
        "|---|---|---|---|",
    ]
    for program in dict.fromkeys(result["program"] for result in results):
        own = [result for result in results if result["program"] == program]
        columns = [program]
        for name in ("AP", "AP50"):
            values = [result[name] for result in own]
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            columns.append(f"{statistics.mean(values):.3f} ({spread:.3f})")
        columns.append(", ".join(f"{result['AP']:.3f}" for result in own))
        lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines)


def main(_: list[str]) -> None:
    workdir = Path(WORKDIR.value)
    workdir.mkdir(parents=True, exist_ok=True)
    log = workdir / "results.jsonl"
    settings = {name: flags.FLAGS[name].value for name in SETTINGS}

    def done() -> list[dict]:
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [line for line in lines if line["settings"] == settings]

    for seed in map(int, SEEDS.value):
        for program in PROGRAMS.value:
            if any((result["program"], result["seed"]) == (program, seed) for result in done()):
                continue
            config = recipe(seed)
            weights = workdir / f"initial_{seed}.safetensors"
            if not weights.exists():
                initial_weights(config, len(open_source(**config.data.train).class_names), weights)
            if program == "lga_jax":
                metrics, seconds = train_lga_jax(
                    config, weights, workdir / f"lga_jax_{seed}_{'_'.join(map(str, settings.values()))}"
                )
            else:
                metrics, seconds = train_torchvision(config, weights)
            result = dict(
                program=program,
                seed=seed,
                settings=settings,
                **metrics,
                seconds=seconds,
                device=str(jax.devices()[0]),
            )
            with log.open("a") as file:
                file.write(json.dumps(result) + "\n")
    print(table(done()))


if __name__ == "__main__":
    app.run(main)
