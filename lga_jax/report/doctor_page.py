"""What the doctor found: as text for a terminal, as one self-contained HTML page, and as JSON for programs."""

import html
import math
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lga_jax.data.doctor.examine import Checkup, Report, Suspect
from lga_jax.data.doctor.findings import SEVERITIES, Case, Finding
from lga_jax.drawing.labels import Label, draw_tile, draw_unreadable
from lga_jax.errors import UserError, counted, printable
from lga_jax.report.page import figure, histogram, page

_FEW, _MANY = 5, 50  # names of a finding: on the terminal, on the page; the JSON has all
_NUM_CLASSES = 12  # on the terminal
_BAR = 30  # signs of the longest bar
_NAME = 32  # columns of the longest name beside a bar
_TILE = 480  # pixels
_SOUND, _FAULTY = (72, 202, 255), (255, 60, 60)


def format_report(report: Report) -> str:
    """For a terminal: of each source its size, histograms and findings; then what is about both."""
    lines = []
    for name, checkup in report.checkups.items():
        lines += [f"{name}: {_contents(checkup)}", *(f"  {printable(line)}" for line in checkup.about)]
        if checkup.num_images:
            common = dict(Counter(checkup.class_boxes).most_common(_NUM_CLASSES))
            lines += ["", "  boxes of each class", *_bars(common)]
            if len(common) < len(checkup.class_boxes):
                lines.append(f"    and {counted(len(checkup.class_boxes) - len(common), 'class')} with fewer")
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
        sections += [f"<h2>{html.escape(name)}</h2>", f"<p>{about}</p>", *map(_block, checkup.findings)]
        if checkup.num_images:
            classes = {printable(name): count for name, count in Counter(checkup.class_boxes).most_common()}
            histograms = (
                histogram("boxes of each class", classes),
                histogram("boxes by the root of their area, in pixels", checkup.box_sizes),
            )
            sections.append(f'<div class="tables">{"".join(histograms)}</div>')
        if checkup.suspects:
            sections.append(
                "<h2>Some images of each fault</h2><p>Red: boxes at fault; blue: others, crowds dashed.</p>"
            )
            sections.append(f'<div class="sheet">{"".join(map(_picture, checkup.suspects))}</div>')
    return page(title, sections)


def report_json(report: Report) -> dict[str, Any]:
    """Counts and all findings with all cases; strict JSON, in which numbers that are not finite are null."""
    return {
        "counts": _counts(report),
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
    return ", ".join(counted(number, severity) for severity, number in _counts(report).items())


def _counts(report: Report) -> dict[str, int]:
    counts = dict.fromkeys(SEVERITIES, 0)
    for finding in report.findings():
        counts[finding.severity] += len(finding.cases)
    return counts


def _contents(checkup: Checkup) -> str:
    numbers = {"image": checkup.num_images, "box": sum(checkup.class_boxes.values()), "class": len(checkup.class_boxes)}
    return ", ".join(counted(number, noun) for noun, number in numbers.items())


def _entry(finding: Finding) -> dict[str, Any]:
    return {**finding._asdict(), "cases": [_case(case) for case in finding.cases]}


def _case(case: Case) -> dict[str, Any]:
    bbox = case.bbox and [length if math.isfinite(length) else None for length in case.bbox]
    return {**case._asdict(), "bbox": bbox}


def _bars(counts: Mapping[str, int]) -> Iterator[str]:
    most = max(counts.values(), default=0) or 1
    names = [_cut(printable(name)) for name in counts]
    width = max(map(_width, names), default=0)
    for name, count in zip(names, counts.values(), strict=True):
        bar = "█" * math.ceil(_BAR * count / most)
        yield f"    {name}{' ' * (width - _width(name))} {count:>9,} {bar}".rstrip()


def _width(text: str) -> int:
    """Columns on a terminal: Chinese, Japanese and Korean letters take two, accents that combine take none."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in text)


def _cut(name: str) -> str:
    """A name of at most _NAME columns."""
    if _width(name) <= _NAME:
        return name
    while _width(name) >= _NAME:
        name = name[:-1]
    return f"{name}…"


def _lines(finding: Finding) -> Iterator[str]:
    yield f"  {finding.severity.upper():<8} {finding.text}"
    yield f"           {'; '.join(_named(finding, _FEW))}"
    if finding.remedy:
        yield f"           -> {finding.remedy}"


def _block(finding: Finding) -> str:
    cases = "".join(f"<li>{html.escape(line)}" for line in _named(finding, _MANY))
    remedy = f'<span class="remedy">{html.escape(finding.remedy)}</span>' if finding.remedy else ""
    return (
        f'<details class="{finding.severity}"><summary><b>{finding.severity}</b> {html.escape(finding.text)}{remedy}'
        f"</summary><ul>{cases}</ul></details>"
    )


def _named(finding: Finding, most: int) -> list[str]:
    """The first cases, and how many more there are."""
    more = len(finding.cases) - most
    return [*(printable(str(case)) for case in finding.cases[:most]), *([f"and {more:,} more"] if more > 0 else [])]


def _picture(suspect: Suspect) -> str:
    faults = ", ".join(f"{count} {kind.split('.')[-1].replace('_', ' ')}" for kind, count in suspect.faults.items())
    caption, record = f"{printable(suspect.name)}: {faults}", suspect.record
    try:
        image = suspect.read()
    except UserError:
        return figure(caption, draw_unreadable((record.height, record.width), _TILE))
    boxes = zip(record.boxes_original.tolist(), record.crowd.tolist(), strict=True)
    labels = [Label((x1, y1, x2 - x1, y2 - y1), "", _SOUND, crowd) for (x1, y1, x2, y2), crowd in boxes]
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
