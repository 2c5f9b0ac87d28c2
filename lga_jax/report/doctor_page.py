"""The findings of the doctor as text for the terminal, as one HTML file, and as JSON."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lga_jax.data.doctor.examine import FaultyImage, Report, SourceReport
from lga_jax.data.doctor.findings import SEVERITIES, Case, Finding
from lga_jax.drawing.labels import Label, draw_tile, draw_unreadable
from lga_jax.errors import UserError, counted, printable
from lga_jax.report.page import figure, histogram, page, text
from lga_jax.terminal import cell, num_columns, shortened

_FEW, _MANY = 5, 50  # cases of a finding on the terminal and in the HTML; the JSON has all
_NUM_CLASSES = 12  # on the terminal
_BAR = 30  # characters of the longest bar
_NAME = 32  # columns of the longest name
_TILE = 480  # pixels
_SOUND, _FAULTY = (72, 202, 255), (255, 60, 60)


def format_report(report: Report) -> str:
    """Text for the terminal: size, histograms and findings of each source, then the findings between them."""
    lines = []
    for name, source_report in report.sources.items():
        lines += [f"{name}: {_contents(source_report)}", *(f"  {printable(line)}" for line in source_report.about)]
        if source_report.num_images:
            common = dict(Counter(source_report.class_boxes).most_common(_NUM_CLASSES))
            lines += ["", "  boxes of each class", *_bars(common)]
            if len(common) < len(source_report.class_boxes):
                lines.append(f"    and {counted(len(source_report.class_boxes) - len(common), 'class')} with fewer")
            lines += ["", "  boxes by the root of their area, in pixels", *_bars(source_report.box_sizes), ""]
        lines += [line for finding in source_report.findings for line in _lines(finding)]
    lines += [line for finding in report.between for line in ("data.train and data.eval:", *_lines(finding))]
    return "\n".join([*lines, summary(report)])


def doctor_html(title: str, report: Report) -> str:
    """The HTML text; pictures are embedded."""
    sections = [f"<h1>{text(title)}</h1>", f'<p class="soft">{text(summary(report))}</p>']
    sections += map(_block, report.between)
    for name, source_report in report.sources.items():
        about = "<br>".join(text(printable(line)) for line in [_contents(source_report), *source_report.about])
        sections += [f"<h2>{text(name)}</h2>", f"<p>{about}</p>", *map(_block, source_report.findings)]
        if source_report.num_images:
            classes = {printable(name): count for name, count in Counter(source_report.class_boxes).most_common()}
            histograms = (
                histogram("boxes of each class", classes),
                histogram("boxes by the root of their area, in pixels", source_report.box_sizes),
            )
            sections.append(f'<div class="tables">{"".join(histograms)}</div>')
        if source_report.faulty_images:
            sections.append(
                "<h2>Examples of each fault</h2><p>Red: faulty boxes; blue: other boxes, crowds dashed.</p>"
            )
            sections.append(f'<div class="sheet">{"".join(map(_picture, source_report.faulty_images))}</div>')
    return page(title, sections)


def report_json(report: Report) -> dict[str, Any]:
    """Counts and all findings with all cases as strict JSON: nan and infinity become null."""
    return {
        "counts": _counts(report),
        "sets": {
            name: {
                "about": source_report.about,
                "images": source_report.num_images,
                "class_boxes": source_report.class_boxes,
                "box_sizes": source_report.box_sizes,
                "findings": [_entry(finding) for finding in source_report.findings],
            }
            for name, source_report in report.sources.items()
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


def _contents(source_report: SourceReport) -> str:
    numbers = {
        "image": source_report.num_images,
        "box": sum(source_report.class_boxes.values()),
        "class": len(source_report.class_boxes),
    }
    return ", ".join(counted(number, noun) for noun, number in numbers.items())


def _entry(finding: Finding) -> dict[str, Any]:
    return {**finding._asdict(), "cases": [_case(case) for case in finding.cases]}


def _case(case: Case) -> dict[str, Any]:
    bbox = case.bbox and [length if math.isfinite(length) else None for length in case.bbox]
    return {**case._asdict(), "bbox": bbox}


def _bars(counts: Mapping[str, int]) -> Iterator[str]:
    most = max(counts.values(), default=0) or 1
    names = [shortened(name, _NAME) for name in counts]
    width = max(map(num_columns, names), default=0)
    for name, count in zip(names, counts.values(), strict=True):
        bar = "█" * math.ceil(_BAR * count / most)
        yield f"    {cell(name, width)} {count:>9,} {bar}".rstrip()


def _lines(finding: Finding) -> Iterator[str]:
    yield f"  {finding.severity.upper():<8} {finding.text}"
    yield f"           {'; '.join(_named(finding, _FEW))}"
    if finding.remedy:
        yield f"           -> {finding.remedy}"


def _block(finding: Finding) -> str:
    cases = "".join(f"<li>{text(line)}" for line in _named(finding, _MANY))
    remedy = f'<span class="remedy">{text(finding.remedy)}</span>' if finding.remedy else ""
    return (
        f'<details class="{finding.severity}"><summary><b>{finding.severity}</b> {text(finding.text)}{remedy}'
        f"</summary><ul>{cases}</ul></details>"
    )


def _named(finding: Finding, most: int) -> list[str]:
    """The first `most` cases and the number of the others."""
    more = len(finding.cases) - most
    return [*(printable(str(case)) for case in finding.cases[:most]), *([f"and {more:,} more"] if more > 0 else [])]


def _picture(faulty: FaultyImage) -> str:
    faults = ", ".join(f"{count} {kind.split('.')[-1].replace('_', ' ')}" for kind, count in faulty.faults.items())
    caption, record = f"{printable(faulty.name)}: {faults}", faulty.record
    try:
        image = faulty.read()
    except UserError:
        return figure(caption, draw_unreadable((record.height, record.width), _TILE))
    boxes = zip(record.boxes_original.tolist(), record.crowd.tolist(), strict=True)
    labels = [Label((x1, y1, x2 - x1, y2 - y1), "", _SOUND, crowd) for (x1, y1, x2, y2), crowd in boxes]
    labels += [
        Label(_within(bbox, image.shape), "", _FAULTY) for bbox in faulty.faulty_boxes if all(map(math.isfinite, bbox))
    ]
    return figure(caption, draw_tile(image, labels, _TILE))


def _within(bbox: Sequence[float], shape: tuple[int, ...]) -> list[float]:
    """Moves sides of a box that are far outside the image to just outside, so that it can be drawn."""
    x, y, width, height = bbox
    x1, x2 = np.clip([x, x + width], -2, shape[1] + 2).tolist()
    y1, y2 = np.clip([y, y + height], -2, shape[0] + 2).tolist()
    return [x1, y1, x2 - x1, y2 - y1]
