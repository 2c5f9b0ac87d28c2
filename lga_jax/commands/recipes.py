"""Lists the recipes, shows a recipe, or copies it to a new file.

    lga_jax recipes
    lga_jax recipes coco_json
    lga_jax recipes coco_json --output mine.py

Train a copy with --config mine.py. Existing files are not overwritten.
"""

import argparse
import os
import sys
from pathlib import Path

from lga_jax import recipe
from lga_jax.command_line.parsing import exit_on_user_error
from lga_jax.errors import UserError
from lga_jax.files import write_atomically
from lga_jax.terminal import say


def main() -> None:
    """Reads the command line, lists or copies."""
    exit_on_user_error(_run)()


def _run() -> None:
    parser = argparse.ArgumentParser(
        prog="lga_jax recipes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", help="a recipe; without it all are listed")
    parser.add_argument("--output", type=os.path.expanduser, help="a new file for a copy")
    given = parser.parse_args()
    if given.name is None:
        if given.output:
            parser.error("--output needs the name of a recipe")
        say(_list())
    elif given.output:
        _copy(given.name, Path(given.output))
    else:
        sys.stdout.write(recipe.path_of(given.name).read_text())


def _list() -> str:
    found = recipe.names()
    width = max(map(len, found))
    return "\n".join(f"{name:<{width}}  {line}" for name, line in found.items())


def _copy(name: str, output: Path) -> None:
    source = recipe.path_of(name).read_text()
    if os.path.lexists(output):
        raise UserError(
            f"--output {output}", expected="a new file", found="an existing file", remedy="name another file"
        )
    write_atomically(output, source.encode())
    say(f"written: {output}; train with: lga_jax train --config {output}")


if __name__ == "__main__":
    main()
