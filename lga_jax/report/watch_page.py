"""The page of a run that is training: its latest numbers, curves and sample pictures."""

import html
from collections.abc import Sequence
from pathlib import Path

from lga_jax.files import write_atomically
from lga_jax.report.analysis_sections import number
from lga_jax.report.curves import read_metrics, training_plots
from lga_jax.report.page import cards, page, picture, text
from lga_jax.report.plots import plots
from lga_jax.stores.copies import files_to_read

NAME = "watch.html"


FILES = ("metrics.jsonl", "samples/sample_*.jpg")


def write_watch_page(workdir: str, seconds: int, folder: str) -> Path:
    """Writes FOLDER/watch.html from metrics.jsonl and samples/ of a run, local or in a bucket. Raises WriteError.

    `seconds`: after this time a browser loads the page again; 0: never.
    """
    path = Path(folder, NAME)
    with files_to_read(workdir, *FILES) as local:
        samples = {sample.stem: sample.read_bytes() for sample in sorted(Path(local, "samples").glob("sample_*.jpg"))}
        lines = read_metrics(Path(local, "metrics.jsonl"))
    write_atomically(path, watch_html(workdir, lines, samples, seconds).encode())
    return path


def watch_html(title: str, lines: Sequence[dict], samples: dict[str, bytes], seconds: int) -> str:
    """The HTML text. `lines`: of metrics.jsonl; `samples`: JPEG files by name."""
    sections = [f"<h1>{text(title)}</h1>"]
    if lines:
        sections += [cards(_latest(lines)), plots(training_plots(lines))]
    else:
        sections.append("<p>No step is logged yet.</p>")
    if samples:
        figures = "".join(picture(name.replace("_", " "), jpeg) for name, jpeg in samples.items())
        sections += [
            '<h2>Latest evaluation</h2><p class="soft">Dashed: objects. Detections have a score of at least 0.5.</p>',
            f'<div class="sheet">{figures}</div>',
        ]
    whole = page(title, sections)
    again = f'<meta http-equiv="refresh" content="{html.escape(str(seconds))}">'
    return whole.replace("<head>", f"<head>{again}", 1) if seconds else whole


def _latest(lines: Sequence[dict]) -> list[tuple[str, str, str]]:
    """Numbers of the last logged step, the last evaluation and the best one."""
    losses = [line for line in lines if "total" in line]
    scores = [line for line in lines if "eval" in line and line["eval"]["AP"] is not None]
    entries = [("step", f"{lines[-1]['step']:,}", "")]
    if losses:
        entries.append(("loss", number(losses[-1]["total"]), f"at step {losses[-1]['step']:,}"))
    if scores:
        last, best = scores[-1], max(scores, key=lambda line: line["eval"]["AP"])
        entries.append(("AP", number(last["eval"]["AP"]), f"at step {last['step']:,}"))
        entries.append(("best AP", number(best["eval"]["AP"]), f"at step {best['step']:,}"))
    return entries
