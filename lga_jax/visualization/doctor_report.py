"""What the doctor found: as text for a terminal, as one self-contained HTML page, and as JSON for programs."""

import html
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lga_jax.data.doctor import Checkup, Report, Suspect
from lga_jax.data.findings import SEVERITIES, Finding, printable
from lga_jax.errors import UserError
from lga_jax.visualization.labels import Label, draw_tile
from lga_jax.visualization.page import figure, page, table

_FEW, _MANY = 5, 50  # names of a finding: on the terminal, on the page; the JSON has all
_NUM_CLASSES = 12  # on the terminal
_BAR = 30  # signs of the longest bar
_TILE = 480  # pixels
_SOUND, _FAULTY, _GREY = (72, 202, 255), (255, 60, 60), 128


def format_report(report: Report) -> str:
    """For a terminal: of each source its size, histograms and findings; then what is about both."""
    lines = []
    for name, checkup in report.checkups.items():
        common = dict(Counter(checkup.class_boxes).most_common(_NUM_CLASSES))
        lines += [f"{name}: {_contents(checkup)}", *(f"  {printable(line)}" for line in checkup.about)]
        lines += ["", "  boxes of each class", *_bars(common)]
        if len(common) < len(checkup.class_boxes):
            lines.append(f"    and {len(checkup.class_boxes) - len(common)} classes with fewer")
        lines += ["", "  boxes by the root of their area, in pixels", *_bars(checkup.box_sizes), ""]
        lines += [line for finding in checkup.findings for line in _lines(finding)]
    lines += [line for finding in report.between for line in ("data.train and data.eval:", *_lines(finding))]
    return "\n".join([*lines, summary(report)])


def doctor_html(title: str, report: Report) -> str:
    """The page as text; pictures are within it."""
    sections = [f"<h1>{html.escape(title)}</h1>", f'<p class="soft">{html.escape(summary(report))}</p>']
    sections += map(_block, report.between)
    for name, checkup in report.checkups.items():
        about = "<br>".join(html.escape(printable(line)) for line in [_contents(checkup), *checkup.about])
        tables = [
            table("boxes of each class", [], _histogram(dict(Counter(checkup.class_boxes).most_common()))),
            table("boxes by the root of their area, in pixels", [], _histogram(checkup.box_sizes)),
        ]
        sections += [f"<h2>{html.escape(name)}</h2>", f"<p>{about}</p>", *map(_block, checkup.findings)]
        sections.append(f'<div class="tables">{"".join(tables)}</div>')
        if checkup.suspects:
            sections.append("<h2>Images with most faults</h2><p>Red: boxes at fault; blue: the others.</p>")
            sections.append(f'<div class="sheet">{"".join(map(_picture, checkup.suspects))}</div>')
    return page(title, sections)


def report_json(report: Report) -> dict[str, Any]:
    """Counts and all findings with all names."""
    return {
        "status": summary(report),
        "sets": {
            name: {
                "about": checkup.about,
                "images": checkup.num_images,
                "class_boxes": checkup.class_boxes,
                "box_sizes": checkup.box_sizes,
                "findings": [_entry(finding) for finding in checkup.findings],
            }
            for name, checkup in report.checkups.items()
        },
        "between": [_entry(finding) for finding in report.between],
    }


def summary(report: Report) -> str:
    """The numbers of errors, warnings and notes."""
    count = Counter(dict.fromkeys(SEVERITIES, 0))
    for finding in report.findings():
        count[finding.severity] += len(finding.names)
    return ", ".join(f"{number:,} {severity}s" for severity, number in count.items())


def _contents(checkup: Checkup) -> str:
    num_boxes, num_classes = sum(checkup.class_boxes.values()), len(checkup.class_boxes)
    return f"{checkup.num_images:,} images, {num_boxes:,} boxes, {num_classes} classes"


def _entry(finding: Finding) -> dict[str, Any]:
    return {**finding._asdict(), "count": len(finding.names)}


def _histogram(counts: Mapping[str, int]) -> list[tuple[str, list[str]]]:
    """Rows of name, number and bar."""
    most = max(counts.values(), default=0) or 1
    return [(printable(name), [f"{count:,}", "█" * math.ceil(_BAR * count / most)]) for name, count in counts.items()]


def _bars(counts: Mapping[str, int]) -> Iterator[str]:
    for name, (count, bar) in _histogram(counts):
        yield f"    {name:<20} {count:>9} {bar}"


def _lines(finding: Finding) -> Iterator[str]:
    yield f"  {finding.severity.upper():<8} {len(finding.names):,} {finding.text}"
    more = f"; and {len(finding.names) - _FEW:,} more" if len(finding.names) > _FEW else ""
    yield f"           {'; '.join(map(printable, finding.names[:_FEW]))}{more}"
    if finding.remedy:
        yield f"           -> {finding.remedy}"


def _block(finding: Finding) -> str:
    shown = finding.names[:_MANY]
    more = f"<li>and {len(finding.names) - _MANY:,} more" if len(finding.names) > _MANY else ""
    names = "".join(f"<li>{html.escape(printable(name))}" for name in shown)
    remedy = f" <i>{html.escape(finding.remedy)}</i>" if finding.remedy else ""
    return (
        f'<details class="{finding.severity}"><summary><b>{finding.severity}</b> {len(finding.names):,} '
        f"{html.escape(finding.text)}{remedy}</summary><ul>{names}{more}</ul></details>"
    )


def _picture(suspect: Suspect) -> str:
    faults = ", ".join(f"{count} {kind.split('.')[-1].replace('_', ' ')}" for kind, count in suspect.faults.items())
    caption = f"{printable(suspect.name)}: {faults}"
    try:
        image = suspect.read()
    except (UserError, OSError):
        return figure(caption, np.full((_TILE // 2, _TILE, 3), _GREY, np.uint8))
    x1y1, x2y2 = suspect.record.boxes_original[:, :2], suspect.record.boxes_original[:, 2:]
    labels = [Label(bbox, "", _SOUND) for bbox in np.concatenate([x1y1, x2y2 - x1y1], axis=1).tolist()]
    labels += [
        Label(_within(bbox, image.shape), "", _FAULTY) for bbox in suspect.faulty_boxes if all(map(math.isfinite, bbox))
    ]
    return figure(caption, draw_tile(image, labels, _TILE))


def _within(bbox: Sequence[float], shape: tuple[int, ...]) -> list[float]:
    """What can be drawn of a box, wherever it lies: its sides outside the image are brought to a little outside."""
    x, y, width, height = bbox
    x1, x2 = np.clip([x, x + width], -2, shape[1] + 2).tolist()
    y1, y2 = np.clip([y, y + height], -2, shape[0] + 2).tolist()
    return [x1, y1, x2 - x1, y2 - y1]
