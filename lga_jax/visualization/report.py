"""One self-contained HTML page about an evaluation: scores, curves and a sheet of pictures."""

import base64
import html
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from lga_jax.data.records import Source, UnreadableImageError
from lga_jax.evaluation.run import EvalResult
from lga_jax.evaluation.tables import challenge_matrix, describe_attention, write_atomically
from lga_jax.visualization.curves import draw_curves, read_metrics
from lga_jax.visualization.detections import draw_detections

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1240px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.soft { opacity: .7; margin-top: .2rem; }
.tables { display: flex; flex-wrap: wrap; gap: 1rem 3rem; align-items: flex-start; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
td, th { padding: .15rem .7rem .15rem 0; border-bottom: 1px solid var(--line); text-align: right; font-weight: 400; }
td:first-child, th:first-child { text-align: left; }
.curves { width: 100%; background: white; border-radius: 8px; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(280px, 1fr)); gap: 1rem; }
figure { margin: 0; background: var(--soft); border-radius: 8px; overflow: hidden; }
figure img { width: 100%; display: block; } figcaption { padding: .4rem .7rem; font-size: .85rem; }
"""


_NUM_PICTURES = 24
_PICTURE_SCORE = 0.5  # detections below stay out of the pictures


class Picture(NamedTuple):
    """One entry of the sheet."""

    caption: str
    image: UInt8[np.ndarray, "h w 3"]


def write_report(result: EvalResult, source: Source, workdir: str, title: str) -> Path:
    """Writes workdir/report.html: the result, the run's curves from its metrics.jsonl, and pictures of the source.

    Raises UserError where it cannot be written.
    """
    curves = draw_curves(read_metrics(Path(workdir, "metrics.jsonl")))
    path = Path(workdir, "report.html")
    write_atomically(path, report_html(title, result, curves, list(_pictures(source, result))).encode())
    return path


def report_html(title: str, result: EvalResult, curves: bytes | None, pictures: Sequence[Picture]) -> str:
    """The page as text; pictures and curves (a PNG) are within it."""
    subtitle = f"{result.num_images} images, {len(result.detections)} detections"
    sections = [f"<h1>{html.escape(title)}</h1>", f'<p class="soft">{subtitle}</p>', _tables(result)]
    if result.attention:
        sections.append(f"<p>{html.escape(describe_attention(result.attention))}</p>")
    if curves:
        sections.append(f'<h2>Training</h2><img class="curves" alt="losses and AP" src="{_data_url(curves, "png")}">')
    sections.append(f'<h2>Detections</h2><div class="sheet">{"".join(map(_figure, pictures))}</div>')
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    body = "\n".join(sections)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def choose_images(images: Sequence[dict], count: int) -> list[int]:
    """Positions of up to `count` COCO images: all challenges and severities in turn, or else evenly spread."""
    groups = defaultdict(list)
    for position, image in enumerate(images):
        groups[image.get("challenge"), image.get("severity")].append(position)
    if len(groups) == 1:
        return sorted(set(np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int).tolist()))
    in_turn = chain.from_iterable(zip_longest(*groups.values()))
    return [position for position in in_turn if position is not None][:count]


def _pictures(source: Source, result: EvalResult) -> Iterator[Picture]:
    truth = source.coco_json()
    names = {category["id"]: category["name"] for category in truth["categories"]}
    position = {record.image_id: i for i, record in enumerate(source.records)}
    for chosen in choose_images(truth["images"], _NUM_PICTURES):
        entry = truth["images"][chosen]
        try:
            image = source.image(position[entry["id"]])
        except UnreadableImageError:
            continue  # the loader has said so
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
        _table("COCO metrics", [], [(name, [value]) for name, value in result.summary.items()]),
        _table("AP per class", [], [(name, [value]) for name, value in result.per_class.items()]),
    ]
    if result.challenges:
        severities = sorted({entry.severity for entry in result.challenges})
        rows = [
            (name.replace("_", " "), [row[severity].ap if severity in row else None for severity in severities])
            for name, row in challenge_matrix(result.challenges)
        ]
        head = ["severity", *("none" if severity == 0 else str(severity) for severity in severities)]
        tables.append(_table("AP per challenge", head, rows))
    return f'<div class="tables">{"".join(tables)}</div>'


def _table(caption: str, head: Sequence[str], rows: Sequence[tuple[str, Sequence[float | None]]]) -> str:
    lines = [f"<tr>{''.join(f'<th>{html.escape(cell)}</th>' for cell in head)}</tr>"] if head else []
    lines += [
        f"<tr><td>{html.escape(name)}</td>{''.join(f'<td>{_number(value)}</td>' for value in values)}</tr>"
        for name, values in rows
    ]
    return f"<table><caption>{html.escape(caption)}</caption>{''.join(lines)}</table>"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return "–" if math.isnan(value) else f"{value:.3f}"


def _figure(picture: Picture) -> str:
    encoded = cv2.imencode(".jpg", picture.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
    caption = html.escape(picture.caption)
    return (
        f'<figure><img loading="lazy" alt="{caption}" src="{_data_url(encoded, "jpeg")}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _data_url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
