"""Looks at a data set and this machine, and writes a recipe for them, with the reason above each value.

    lga_jax suggest --config coco_json --config.data.train.root=data/mine --config.data.eval.root=data/mine \
        --output mine.py

The recipe of --config only names the data sets; its other values are not used. The new recipe starts from
coco_json_small on a CPU, and from coco_json on a GPU or TPU. Its values follow from the sizes of images and objects,
their number, the classes and the free memory. They are a start: look at the preview, train, and change what you know
better. An existing file is not overwritten.
"""

import os
from pathlib import Path

from absl import flags

from lga_jax.command_line import parsing
from lga_jax.errors import UserError
from lga_jax.terminal import say


def main() -> None:
    """Reads the flags and writes the recipe."""
    config = parsing.define_config("Recipe that names the data sets, by name or path.")
    output = parsing.define_path("output", "A new file for the recipe.")
    flags.mark_flag_as_required("output")

    def run() -> None:
        if os.path.lexists(output.value):
            raise UserError(
                f"--output {output.value}",
                expected="a new file",
                found="an existing file",
                remedy="name another file",
            )
        from lga_jax.suggest.suggest import suggest  # takes seconds; faults of the flags are reported before

        say("\n".join(suggest(config.value, Path(output.value))))

    parsing.run(run, config)


if __name__ == "__main__":
    main()
