"""Draws training images: samples of the first steps after augmentation, each beside its original.

    lga_jax preview --config configs/coco.py --output runs/coco/preview --num_images 32

Writes sheets of 16 samples to DIR/preview_000.jpg, ... On the left is an image as stored with its boxes, crowds dashed;
on the right is the same image as a new run trains on it, with the padding of its bucket. Another --config.seed shows
other augmentations.
"""

from absl import flags

from lga_jax.command_line import parsing
from lga_jax.terminal import say


def main() -> None:
    """Reads the flags."""
    config = parsing.define_config()
    output = parsing.define_path("output", "Folder for the sheets.")
    num_images = flags.DEFINE_integer("num_images", 16, "Samples to draw.", lower_bound=1)
    flags.mark_flag_as_required("output")

    def run() -> None:
        from lga_jax.report.preview_sheet import preview  # takes seconds; faults of the recipe are reported before

        paths = preview(config.value, output.value, num_images.value)
        say(f"written: {' '.join(map(str, paths))}")

    parsing.run(run, config)


if __name__ == "__main__":
    main()
