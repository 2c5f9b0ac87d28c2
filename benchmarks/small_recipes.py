"""AP of the small recipe's backbone against ResNet-18 with partial weights, after the same processor time.

    python -m benchmarks.small_recipes --data data --weights resnet18.npz --workdir runs/small_recipes

Needs BCCD and NEU-DET as COCO JSON in the folders bccd and neu_det of --data, and the extra `efficientnet`. A run is
the recipe of the data set (configs/bccd.py, configs/neu_det.py) with the backbone, the pixel values and the weights of
configs/coco_json_small.py, or with its own ResNet-18 from --weights.

benchmarks/same_time.py explains how runs are compared. A workdir is for one --data, --weights and --cpu_seconds.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from benchmarks import same_time, timing
from lga_jax.recipe import load

DATA = {"bccd": "BCCD", "neu_det": "NEU-DET"}
BACKBONES = {"efficientnet_lite0": "EfficientNet-Lite0", "resnet18": "ResNet-18, partial weights"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default="data", help="Folder of bccd and neu_det.")
    parser.add_argument("--weights", default="resnet18.npz", help="ImageNet weights of a ResNet-18, whole or partial.")
    same_time.add_arguments(parser, "runs/small_recipes")


def rows(args: argparse.Namespace) -> Iterator[dict]:
    yield from same_time.rows(args, DATA, BACKBONES, recipe)


def recipe(args: argparse.Namespace, data: str, backbone: str) -> ConfigDict:
    config = load(data)
    for part in (config.data.train, config.data.eval):
        part.root = str(Path(args.data, data))
    config.model.init_from = args.weights
    if backbone != "resnet18":
        small = load("coco_json_small").model
        for key in ("backbone", "pixel_mean", "pixel_std", "init_from"):
            setattr(config.model, key, small[key])
    return same_time.shrunk(config) if args.quick else config


if __name__ == "__main__":
    timing.main(rows, __doc__, add_arguments)
