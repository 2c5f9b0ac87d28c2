"""Converts YOLO's text files or Pascal VOC's XML files to COCO JSON, once, for the recipes of COCO JSON.

    lga_jax convert yolo --input data/mine/data.yaml --output data/mine/annotations
    lga_jax convert voc  --input data/VOC2007 --output data/VOC2007/coco --split trainval test

Writes OUTPUT/SPLIT.json for each split and prints the flags that name it. Images are not copied, and existing files are
not overwritten.
"""

import argparse
import os
from pathlib import Path

from lga_jax.command_line.parsing import exit_on_user_error
from lga_jax.errors import UserError
from lga_jax.files import make_folder, write_json
from lga_jax.terminal import say

_PARTS = ("train", "eval")  # of the recipe, for the first two splits


def main() -> None:
    """Reads the command line and converts."""
    exit_on_user_error(_convert)()


def _convert() -> None:
    parser = argparse.ArgumentParser(
        prog="lga_jax convert", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("format", choices=["yolo", "voc"], help="format of the annotations")
    parser.add_argument("--input", required=True, type=os.path.expanduser, help="data.yaml, or the folder of VOC")
    parser.add_argument("--output", required=True, type=os.path.expanduser, help="folder for the JSON files")
    parser.add_argument("--split", nargs="+", default=["train", "val"], help="names of the splits (train val)")
    parser.add_argument(
        "--pixels",
        choices=["voc", "edges"],
        default="voc",
        help="voc: pixels count from 1 and the last one is included, as in VOC; edges: coordinates of the box's edges",
    )
    given = parser.parse_args()

    from lga_jax.data.convert.voc import open_voc  # takes seconds; faults of the flags are reported before
    from lga_jax.data.convert.yolo import read_yolo

    files = {split: Path(given.output, f"{split}.json") for split in given.split}
    for file in files.values():
        if file.exists():
            raise UserError(str(file), expected="a new file", found="an existing file", remedy="remove it")
    if given.format == "yolo":
        converted = {split: read_yolo(Path(given.input), split) for split in files}
    else:
        folder = open_voc(Path(given.input), given.pixels)
        converted = {split: folder.split(split) for split in files}
    make_folder(given.output)
    flags, lines = [], []
    for number, (split, one) in enumerate(converted.items()):
        write_json(files[split], one.content)
        lines += [*one.notes, f"written: {files[split]}"]
        if number < len(_PARTS):
            key = f"--config.data.{_PARTS[number]}"
            flags += [
                f"{key}.root={one.images.resolve()}",
                f"{key}.images=.",
                f"{key}.annotations={files[split].resolve()}",
            ]
    say("\n".join([*lines, "", "check and train with:", f"lga_jax doctor --config coco_json {' '.join(flags)}"]))


if __name__ == "__main__":
    main()
