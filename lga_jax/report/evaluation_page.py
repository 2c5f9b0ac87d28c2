"""The HTML report of an evaluation: scores, what goes wrong, curves and pictures in one file."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lga_jax.data.source import Source
from lga_jax.errors import counted
from lga_jax.evaluation.evaluate import EvalResult
from lga_jax.files import write_atomically
from lga_jax.report import analysis_sections
from lga_jax.report.analysis_sections import number
from lga_jax.report.curves import read_metrics, training_plots
from lga_jax.report.mistake_pictures import Sheet, sheets
from lga_jax.report.page import encode_within, page, picture, table, text
from lga_jax.report.plots import plots
from lga_jax.report.tables import challenge_matrix, describe_attention

_MOST_BYTES = 6_500_000  # of all pictures; a page stays below 10 MB


def write_report(result: EvalResult, source: Source, *, workdir: str, output: str, title: str) -> Path:
    """Writes output/report.html: the result, the curves from the workdir's metrics.jsonl, and pictures of the source.

    Raises UserError if it cannot be written.
    """
    training = training_plots(read_metrics(Path(workdir, "metrics.jsonl")))
    path = Path(output, "report.html")
    write_atomically(path, report_html(title, result, training, list(sheets(source, result))).encode())
    return path


def report_html(title: str, result: EvalResult, training: Sequence[str], pictures: Sequence[Sheet]) -> str:
    """The HTML text; pictures and plots are embedded. `training`: plots as HTML."""
    subtitle = f"{counted(result.num_images, 'image')}, {counted(len(result.detections), 'detection')}"
    sections = [f"<h1>{text(title)}</h1>", f'<p class="soft">{subtitle}</p>']
    if result.analysis:
        sections += _analysed(result)
    sections += ["<h2>Scores</h2>", _tables(result)]
    if result.attention:
        sections.append(f"<p>{text(describe_attention(result.attention))}</p>")
    if training:
        sections += ["<h2>Training</h2>", plots(training)]
    return page(title, [*sections, *_pictures(pictures)])


def _analysed(result: EvalResult) -> Iterator[str]:
    yield analysis_sections.headline(result.summary, result.analysis)
    yield analysis_sections.error_section(result.analysis, result.segm_analysis)
    yield analysis_sections.curve_section(result.analysis, result.segm_analysis)
    yield analysis_sections.confusion_section(result.analysis)


def _pictures(pictures: Sequence[Sheet]) -> Iterator[str]:
    files = iter(encode_within([entry.image for sheet in pictures for entry in sheet.pictures], _MOST_BYTES))
    for sheet in pictures:
        if sheet.pictures:
            figures = "".join(picture(entry.caption, next(files)) for entry in sheet.pictures)
            yield f'<h2>{text(sheet.title)}</h2><p class="soft">{text(sheet.text)}</p>'
            yield f'<div class="sheet">{figures}</div>'


def _tables(result: EvalResult) -> str:
    tables = [table("COCO metrics", [], _rows((name, [value]) for name, value in result.summary.items()))]
    if result.analysis:
        tables.append(analysis_sections.class_table(result.per_class, result.analysis, _of_masks(result)))
    else:
        tables.append(table("AP per class", [], _rows((name, [value]) for name, value in result.per_class.items())))
    if result.challenges:
        severities = sorted({entry.severity for entry in result.challenges})
        rows = [
            (name.replace("_", " "), [row[severity].ap if severity in row else None for severity in severities])
            for name, row in challenge_matrix(result.challenges)
        ]
        head = ["severity", *("none" if severity == 0 else str(severity) for severity in severities)]
        tables.append(table("AP per challenge", head, _rows(rows)))
    return f'<div class="tables">{"".join(tables)}</div>'


def _of_masks(result: EvalResult) -> list[tuple[str, Sequence[float]]]:
    """Columns of the table of classes."""
    if result.segm_per_class is None or result.segm_analysis is None:
        return []
    return [("mask AP", list(result.segm_per_class.values())), ("mask AP50", result.segm_analysis.ap50)]


def _rows(rows: Iterable[tuple[str, Sequence[float | None]]]) -> list[tuple[str, list[str]]]:
    return [(name, [number(value) for value in values]) for name, values in rows]
