"""Draws what training sees: samples of the first steps as the loader makes them, each beside its original.

    python -m lga_jax.commands.preview --config configs/coco.py --output runs/coco/preview --num_images 32

Writes sheets of 16 into DIR/preview_000.jpg, ...: left an image with its boxes as stored, crowds dashed, right the same
image as the step of a new run sees it, with the padding of its bucket. Another --config.seed shows other draws.
"""

from absl import flags
from ml_collections import config_flags

from lga_jax.commands import command_line
from lga_jax.report.preview_sheet import preview


def main() -> None:
    """Reads the flags."""
    config = config_flags.DEFINE_config_file("config", None, "Recipe, such as configs/coco.py.", lock_config=True)
    output = flags.DEFINE_string("output", None, "Folder for the sheets.")
    num_images = flags.DEFINE_integer("num_images", 16, "Samples to draw.", lower_bound=1)
    flags.mark_flags_as_required(["config", "output"])
    command_line.run(lambda: print("written:", *preview(config.value, output.value, num_images.value)))


if __name__ == "__main__":
    main()
