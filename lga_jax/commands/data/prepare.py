r"""Prepares data sets of TensorFlow Datasets (TFDS), or a folder with COCO annotations.

    lga_jax prepare coco/2017 --data_dir data/tfds
    lga_jax prepare voc/2007 --data_dir data/tfds --manual_dir downloads
    lga_jax prepare coco_json --name mine --data_dir data/tfds --root data/mine \
        --split train validation --annotations annotations/train.json annotations/val.json --images train val

Image files are packed unchanged into a few large files with random access (array_record). TFDS downloads archives to
data_dir/downloads, or takes downloaded archives from --manual_dir, and verifies their checksums. After an interruption
run the command again: complete archives are kept. Unfinished folders of killed preparations are listed. An existing
data set is not changed; to prepare it again, remove its folder.

coco, voc, open_images_v4 and folders with COCO JSON need no TensorFlow; other data sets may.
"""

import argparse
import os
import sys

from lga_jax.command_line.parsing import exit_on_user_error
from lga_jax.errors import escaped
from lga_jax.terminal import say


def main() -> None:
    """Reads the command line and prepares."""
    exit_on_user_error(_prepare)()


def _prepare() -> None:
    parser = argparse.ArgumentParser(
        prog="lga_jax prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", help="an official set, as coco/2017, or coco_json")
    parser.add_argument("--data_dir", required=True, type=os.path.expanduser, help="the folder of TFDS's sets")
    parser.add_argument("--manual_dir", type=os.path.expanduser, help="official set: a folder with its archives")
    parser.add_argument("--name", help="coco_json: name of the new set")
    parser.add_argument("--root", type=os.path.expanduser, help="coco_json: the folder of annotations and images")
    parser.add_argument("--split", nargs="+", help="coco_json: names of the splits")
    parser.add_argument("--annotations", nargs="+", help="coco_json: annotation file of each split, relative to root")
    parser.add_argument("--images", nargs="+", help="coco_json: folder of images of each split, relative to root")
    given = parser.parse_args()
    if given.what == "coco_json" and given.split and len(set(given.split)) < len(given.split):
        parser.error(f"--split: expected each name once, found {' '.join(given.split)}")

    from lga_jax.data.tfds.prepare import find_leftovers, prepare_coco_json, prepare_official  # takes seconds

    for line in find_leftovers(given.data_dir):
        print(escaped(line), file=sys.stderr)
    folder_flags = (given.name, given.root, given.split, given.annotations, given.images)
    if given.what != "coco_json":
        if any(folder_flags):
            parser.error(f"{given.what} takes only --data_dir and --manual_dir")
        report = prepare_official(given.what, given.data_dir, given.manual_dir)
    else:
        if not all(folder_flags) or len({len(given.split), len(given.annotations), len(given.images)}) > 1:
            parser.error("coco_json takes --name, --root, and as many --annotations and --images as --split")
        splits = dict(zip(given.split, zip(given.annotations, given.images, strict=True), strict=True))
        report = prepare_coco_json(given.name, given.data_dir, given.root, splits)
    say("\n".join(report))


if __name__ == "__main__":
    main()
