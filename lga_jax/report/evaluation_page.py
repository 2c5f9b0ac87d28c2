"""The HTML report of an evaluation: scores, curves and pictures in one file."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from lga_jax.data.source import Source, UnreadableImageError, truth_of
from lga_jax.drawing.pictures import draw_detections
from lga_jax.evaluation.evaluate import EvalResult
from lga_jax.files import write_atomically
from lga_jax.report.curves import draw_curves, read_metrics
from lga_jax.report.page import data_url, figure, page, table, text
from lga_jax.report.tables import challenge_matrix, describe_attention

_NUM_PICTURES = 24
_PICTURE_SCORE = 0.5  # detections below stay out of the pictures


class Picture(NamedTuple):
    """One entry of the sheet."""

    caption: str
    image: UInt8[np.ndarray, "h w 3"]


def write_report(result: EvalResult, source: Source, *, workdir: str, output: str, title: str) -> Path:
    """Writes output/report.html: the result, the curves from the workdir's metrics.jsonl, and pictures of the source.

    Raises UserError if it cannot be written.
    """
    curves = draw_curves(read_metrics(Path(workdir, "metrics.jsonl")))
    path = Path(output, "report.html")
    write_atomically(path, report_html(title, result, curves, list(_pictures(source, result))).encode())
    return path


def report_html(title: str, result: EvalResult, curves: bytes | None, pictures: Sequence[Picture]) -> str:
    """The HTML text; pictures and curves (a PNG) are embedded."""
    subtitle = f"{result.num_images} images, {len(result.detections)} detections"
    sections = [f"<h1>{text(title)}</h1>", f'<p class="soft">{subtitle}</p>', _tables(result)]
    if result.attention:
        sections.append(f"<p>{text(describe_attention(result.attention))}</p>")
    if curves:
        sections.append(f'<h2>Training</h2><img class="curves" alt="losses and AP" src="{data_url(curves, "png")}">')
    sections.append(f'<h2>Detections</h2><div class="sheet">{"".join(figure(*picture) for picture in pictures)}</div>')
    return page(title, sections)


def choose_images(images: Sequence[dict], count: int) -> list[int]:
    """Positions of up to `count` COCO images: challenges and severities in turn; without them, evenly spread."""
    groups = defaultdict(list)
    for position, image in enumerate(images):
        groups[image.get("challenge"), image.get("severity")].append(position)
    if len(groups) == 1:
        return sorted(set(np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int).tolist()))
    in_turn = chain.from_iterable(zip_longest(*groups.values()))
    return [position for position in in_turn if position is not None][:count]


def _pictures(source: Source, result: EvalResult) -> Iterator[Picture]:
    truth = truth_of(source)
    names = {category["id"]: category["name"] for category in truth["categories"]}
    position = {record.image_id: i for i, record in enumerate(source.records)}
    for chosen in choose_images(truth["images"], _NUM_PICTURES):
        entry = truth["images"][chosen]
        try:
            image = source.image(position[entry["id"]])
        except UnreadableImageError:
            continue  # the loader has warned already
        found = [d for d in result.detections if d["image_id"] == entry["id"] and d["score"] >= _PICTURE_SCORE]
        boxes = [annotation for annotation in truth["annotations"] if annotation["image_id"] == entry["id"]]
        yield Picture(_caption(entry), draw_detections(image, found, names, boxes))


def _caption(entry: Mapping[str, Any]) -> str:
    name = str(entry.get("file_name", entry["id"]))
    if "challenge" not in entry:
        return name
    severity = f", severity {entry['severity']}" if entry["severity"] else ""
    return f"{name}: {entry['challenge'].replace('_', ' ')}{severity}"


def _tables(result: EvalResult) -> str:
    tables = [
        table("COCO metrics", [], _rows((name, [value]) for name, value in result.summary.items())),
        table("AP per class", [], _rows((name, [value]) for name, value in result.per_class.items())),
    ]
    if result.challenges:
        severities = sorted({entry.severity for entry in result.challenges})
        rows = [
            (name.replace("_", " "), [row[severity].ap if severity in row else None for severity in severities])
            for name, row in challenge_matrix(result.challenges)
        ]
        head = ["severity", *("none" if severity == 0 else str(severity) for severity in severities)]
        tables.append(table("AP per challenge", head, _rows(rows)))
    return f'<div class="tables">{"".join(tables)}</div>'


def _rows(rows: Iterable[tuple[str, Sequence[float | None]]]) -> list[tuple[str, list[str]]]:
    return [(name, [_number(value) for value in values]) for name, values in rows]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return "–" if math.isnan(value) else f"{value:.3f}"
