"""Pictures of the masks of finished runs of the study.

    python -m studies.attention.pictures --workdir runs/study --rows lga_paper,softmax --output docs/images

Writes two files per row. The first is a sheet of 24 random true positives, equally many per class: the detection in
white, each mask's centre and one-sigma ellipse, and the true box of the part dotted. Below are the regions of the
masks, mu +- 1.5 sigma, which the forms with close-ups read again; a white frame marks the mask that decides the object
(measure.py). The second shows the average of the masks over all true positives of a class, in RoI coordinates, beside
the position of the part if it is annotated.
"""

import argparse
import random
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import matplotlib as mpl
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from lga_jax.data.source import Source
from lga_jax.drawing.canvas import draw_box, draw_dashed_box, draw_dot, draw_ellipse, font, make_canvas
from lga_jax.drawing.close_ups import close_up, region
from lga_jax.drawing.pictures import mask_colour
from lga_jax.drawing.text import drawable
from lga_jax.evaluation.mask_hits import true_positives
from lga_jax.terminal import safe_output
from studies.attention.measure import deciding, open_run, scorer
from studies.attention.rows import ROWS
from studies.attention.workdir import read_runs

mpl.use("Agg")
import matplotlib.pyplot as plt

TILE = 192  # pixels
COLUMNS = 6
GRID = 28  # side of an average mask, cells
Pair = tuple[dict, dict]  # annotation, detection


class Shown(NamedTuple):
    """The evaluation images of a run, its true positives, and the mask that decides each, by the annotation's id."""

    source: Source
    pairs: list[Pair]
    decided: dict[Any, int | None]


def find_shown(row_name: str, given: argparse.Namespace) -> Shown:
    wanted = (given.data, row_name, given.seed)
    runs = {(run["data"], run["row"], run["seed"]): run for run in read_runs(given.workdir)}
    if wanted not in runs:
        raise SystemExit(
            f"--rows: no finished run of {row_name}, seed {given.seed}, on {given.data} in {given.workdir}"
        )
    opened = open_run(runs[wanted], given.workdir, given.data_root)
    source, score = opened.source, scorer(opened)
    whole, truth = score(()), source.truth()
    masked = [detection for detection in whole.detections if "mask_centres" in detection]
    if not masked:
        raise SystemExit(f"--rows: {row_name} has no masks to show")
    decided = {}
    if ROWS[row_name].attention == "lga":
        decided = deciding(truth, whole, [score((mask,)) for mask in range(ROWS[row_name].num_masks)])
    return Shown(source, true_positives(truth["annotations"], masked), decided)


def choose(pairs: list[Pair], count: int) -> list[Pair]:
    """Random pairs, as equal in number per class as possible."""
    by_class = defaultdict(list)
    for pair in pairs:
        by_class[pair[0]["category_id"]].append(pair)
    dice = random.Random(0)
    for own in by_class.values():
        dice.shuffle(own)
    turns = [own[turn] for turn in range(count) for _, own in sorted(by_class.items()) if turn < len(own)]
    return sorted(turns[:count], key=lambda pair: pair[0]["category_id"])


def draw_sheet(shown: Shown, pairs: list[Pair]) -> UInt8[np.ndarray, "h w 3"]:
    truth = shown.source.truth()
    index = {image["id"]: position for position, image in enumerate(truth["images"])}
    names = {category["id"]: category["name"] for category in truth["categories"]}
    tiles = []
    for box, detection in pairs:
        image = shown.source.image(index[box["image_id"]])
        caption = f"{drawable(names[box['category_id']].replace('_', ' '))} {detection['score']:.2f}"
        parts = [
            _tile(image, box, detection),
            _close_ups(image, detection, shown.decided.get(box["id"])),
            _caption(caption),
        ]
        tiles.append(np.concatenate(parts))
    tiles += [np.full_like(tiles[0], 24)] * (-len(tiles) % COLUMNS)
    return np.concatenate(
        [np.concatenate(tiles[start : start + COLUMNS], axis=1) for start in range(0, len(tiles), COLUMNS)]
    )


def _tile(image: UInt8[np.ndarray, "h w 3"], box: dict, detection: dict) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The square around the object, enlarged."""
    x, y, width, height = detection["roi"]
    side = 1.3 * max(width, height)
    around = np.array([x + width / 2 - side / 2, y + height / 2 - side / 2])
    scale = TILE / side
    canvas = make_canvas(region(image, around, np.array([side, side]), TILE))
    canvas = canvas._replace(line=2 * canvas.scale)  # the tile is reduced afterwards

    def place(bbox: list[float]) -> list[float]:
        return [*((np.array(bbox[:2]) - around) * scale), bbox[2] * scale, bbox[3] * scale]

    draw_box(canvas, place(detection["bbox"]), (255, 255, 255))
    if "part_bbox" in box:
        draw_dashed_box(canvas, place(box["part_bbox"]), (255, 255, 255), dash=1)
    masks = list(zip(detection["mask_centres"], detection["mask_sigmas"], strict=True))
    masks = [((np.array(c) - around) * scale, np.array(s) * scale, mask_colour(i)) for i, (c, s) in enumerate(masks)]
    for centre, sigma, colour in masks:
        draw_ellipse(canvas, centre, sigma, colour)
    for centre, _, colour in masks:
        draw_dot(canvas, centre, colour, room=TILE / 4)
    return cv2.resize(canvas.pixels, (TILE, TILE), interpolation=cv2.INTER_AREA)


def _close_ups(image: UInt8[np.ndarray, "h w 3"], detection: dict, decides: int | None) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The regions of the masks side by side, framed in their colours; the deciding one has a white frame outside."""
    number = len(detection["mask_centres"])
    side = TILE // max(number, 2)
    strip = np.full((side, TILE, 3), 24, np.uint8)
    for mask in range(number):
        place = strip[:, mask * side : (mask + 1) * side]
        place[:] = 255 if mask == decides else 24
        place[3:-3, 3:-3] = close_up(image, detection, mask, side - 6, 3)
    return strip


def _caption(text: str) -> UInt8[np.ndarray, "h w 3"]:
    picture = Image.new("RGB", (TILE, 20), (24, 24, 27))
    ImageDraw.Draw(picture).text((4, 10), text, fill=(255, 255, 255), font=font(11), anchor="lm")
    return np.asarray(picture)


def plot_average_masks(source: Source, pairs: list[Pair], title: str, path: Path) -> None:
    """One row per class, one column per mask; with annotated parts, the last is the share of them in each cell."""
    names = {category["id"]: category["name"] for category in source.truth()["categories"]}
    by_class = defaultdict(list)
    for pair in pairs:
        by_class[pair[0]["category_id"]].append(pair)
    num_masks = len(pairs[0][1]["mask_centres"])
    columns = num_masks + any("part_bbox" in box for box, _ in pairs)
    figure, grid = plt.subplots(
        len(by_class),
        columns,
        figsize=(1.1 * columns + 1, 1.15 * len(by_class) + 0.6),
        layout="constrained",
        squeeze=False,
    )
    for line, (category, own) in zip(grid, sorted(by_class.items()), strict=True):
        pictures = [*np.mean([_masks_of(detection) for _, detection in own], axis=0)]
        if columns > num_masks:
            pictures.append(np.mean([_part_of(box, detection) for box, detection in own], axis=0))
        for mask, (axes, picture) in enumerate(zip(line, pictures, strict=True)):
            axes.imshow(picture, vmin=0, vmax=1 if mask < num_masks else None, cmap="magma", extent=(0, 7, 7, 0))
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(names[category].replace("_", "\n"), fontsize=7)
    for mask, axes in enumerate(grid[0]):
        axes.set_title(f"mask {mask + 1}" if mask < num_masks else "the part", fontsize=8)
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _cells() -> Float[np.ndarray, "q"]:
    return (np.arange(GRID) + 0.5) / GRID


def _masks_of(detection: dict) -> Float[np.ndarray, "m q q"]:
    roi = np.array(detection["roi"])
    centres = (np.array(detection["mask_centres"]) - roi[:2]) / np.maximum(roi[2:], 1e-9)
    sigmas = np.array(detection["mask_sigmas"]) / np.maximum(roi[2:], 1e-9)
    profile = np.exp(-0.5 * ((_cells() - centres[..., None]) / sigmas[..., None]) ** 2)
    return profile[:, 1, :, None] * profile[:, 0, None, :]


def _part_of(box: dict, detection: dict) -> Float[np.ndarray, "q q"]:
    roi, part = np.array(detection["roi"]), np.array(box["part_bbox"])
    low = (part[:2] - roi[:2]) / np.maximum(roi[2:], 1e-9)
    high = low + part[2:] / np.maximum(roi[2:], 1e-9)
    inside = [(_cells() >= low[axis]) & (_cells() <= high[axis]) for axis in (0, 1)]
    return (inside[1][:, None] & inside[0][None]).astype(float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path("runs/study"), help="workdir of studies.attention.study")
    parser.add_argument("--data", default="challenge", help="data set")
    parser.add_argument(
        "--rows", type=lambda text: text.split(","), default=["lga_paper", "lga"], help="rows with masks"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the run")
    parser.add_argument("--output", type=Path, default=Path("docs/images"), help="folder for the pictures")
    parser.add_argument("--data_root", default="data", help="folder with bccd/ and neu_det/")
    parser.add_argument("--shown", type=int, default=24, help="detections on a sheet")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    for row in given.rows:
        shown = find_shown(row, given)
        stem = given.output / f"study_{given.data}_{row}"
        Image.fromarray(draw_sheet(shown, choose(shown.pairs, given.shown))).save(f"{stem}_sheet.jpg", quality=90)
        plot_average_masks(shown.source, shown.pairs, f"{row}: average masks by class", Path(f"{stem}_masks.png"))
        print(f"{stem}_sheet.jpg, {stem}_masks.png: {len(shown.pairs)} true positives")


if __name__ == "__main__":
    with safe_output():
        main()
