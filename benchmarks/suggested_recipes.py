"""AP of the recipes that `lga_jax suggest` writes, against coco_json_small, after the same processor time.

    python -m benchmarks.suggested_recipes --data data --workdir runs/suggested_recipes

Needs BCCD, NEU-DET and playing cards as COCO JSON in the folders bccd, neu_det and cards of --data, and the extra
`efficientnet`. Both recipes start from the same ImageNet weights. benchmarks/same_time.py explains how they are
compared. A workdir is for one --data and --cpu_seconds.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from benchmarks import same_time, timing
from lga_jax.data.source import open_source
from lga_jax.recipe import load
from lga_jax.suggest.choose import apply, choose
from lga_jax.suggest.machine import this_machine
from lga_jax.suggest.statistics import measure

DATA = {"bccd": "BCCD", "neu_det": "NEU-DET", "cards": "Playing cards"}
KINDS = {"coco_json_small": "coco_json_small", "suggested": "suggested"}
_SPLITS = {"bccd": ("trainval", "test"), "neu_det": ("train", "val"), "cards": ("train", "test")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default="data", help="Folder of bccd, neu_det and cards.")
    same_time.add_arguments(parser, "runs/suggested_recipes")


def rows(args: argparse.Namespace) -> Iterator[dict]:
    yield from same_time.rows(args, DATA, KINDS, recipe)


def recipe(args: argparse.Namespace, data: str, kind: str) -> ConfigDict:
    config = load("coco_json_small")
    for part, split in zip((config.data.train, config.data.eval), _SPLITS[data], strict=True):
        part.root, part.annotations = str(Path(args.data, data)), f"annotations/{split}.json"
    if kind == "suggested":
        suggestion = choose(measure(open_source(**config.data.train)), this_machine())
        suggested = load(suggestion.base)
        suggested.data.train, suggested.data.eval = config.data.train, config.data.eval
        apply(suggested, suggestion.choices)
        config = suggested
    return same_time.shrunk(config) if args.quick else config


if __name__ == "__main__":
    timing.main(rows, __doc__, add_arguments)
