"""Lists public files of weights, or shows how one is imported and scored on COCO.

    lga_jax weights
    lga_jax weights torchvision-v2

Nothing is downloaded. `python -m benchmarks.zoo` downloads, imports and scores all of the detectors.
"""

import argparse
from collections.abc import Iterable, Sequence

from lga_jax.command_line.parsing import exit_on_user_error
from lga_jax.terminal import say
from lga_jax.weights.zoo import BACKBONES, DETECTORS, PublicBackbone, find_detector, shell


def main() -> None:
    """Reads the command line and prints."""
    exit_on_user_error(_run)()


def _run() -> None:
    parser = argparse.ArgumentParser(
        prog="lga_jax weights", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", help="a detector; without it all files are listed")
    name = parser.parse_args().name
    say(_list() if name is None else _show(name))


def _list() -> str:
    detectors = [
        (name, f"{entry.box_ap:.1f}", _ap(entry.mask_ap), entry.recipe, entry.licence)
        for name, entry in DETECTORS.items()
    ]
    backbones = [(entry.backbone, _recipe(entry), entry.licence, entry.place) for entry in BACKBONES]
    return "\n".join(
        [
            "Detectors of COCO's classes; AP is the published AP of boxes (and of masks) on val2017:",
            "",
            *_columns([("name", "AP", "masks", "recipe", "licence"), *detectors]),
            "",
            "ImageNet weights for --config.model.init_from (download a https:// file first):",
            "",
            *_columns([("backbone", "recipe", "licence", "place"), *backbones]),
            "",
            "lga_jax weights NAME shows the commands for a detector.",
        ]
    )


def _recipe(entry: PublicBackbone) -> str:
    return " ".join([entry.recipe, *(f"--config.{key}={value}" for key, value in entry.settings.items())])


def _ap(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _columns(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _show(name: str) -> str:
    entry = find_detector(name)
    commands = [["curl", "-fLO", entry.address], *entry.commands(f"runs/{name}")]
    return "\n".join(
        [
            f"published box AP {entry.box_ap:.1f} ({entry.source})",
            *([f"mask AP          {entry.mask_ap:.1f}"] if entry.mask_ap else []),
            f"licence          {entry.licence}",
            f"digest           {entry.digest}",
            "",
            *map(shell, commands),
        ]
    )


if __name__ == "__main__":
    main()
