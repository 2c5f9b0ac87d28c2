"""Parts of the HTML reports. A report is one file and loads nothing else."""

import base64
import hashlib
import html
from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from lga_jax.errors import escaped_lines

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --bar: #0e7490; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1240px; margin: 2rem auto; padding: 0 1rem;
  overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin-bottom: 0; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .3rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
.soft { opacity: .75; margin: .2rem 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 155px), 1fr)); gap: .8rem;
  margin: 1rem 0; }
.cards div { background: var(--soft); border-radius: 8px; padding: .6rem .9rem; }
.cards b { display: block; font-size: 1.5rem; line-height: 1.3; }
.tables { display: flex; flex-wrap: wrap; gap: 1rem 3rem; align-items: flex-start; margin: 1rem 0; }
.tables > div { max-width: 100%; overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
td, th { padding: .15rem .7rem .15rem 0; border-bottom: 1px solid var(--line); text-align: right; font-weight: 400;
  vertical-align: top; white-space: nowrap; }
td:first-child, th:first-child { text-align: left; overflow-wrap: anywhere; white-space: normal; min-width: 6rem; }
.bar { width: min(15rem, 25vw); } .bar div { height: .8rem; margin-top: .3rem; background: var(--bar); }
.heat td:not(:first-child), .heat th { padding: .2rem .35rem; text-align: center; min-width: 1.6rem;
  vertical-align: bottom; }
.heat th { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; max-height: 12rem; }
.heat th:first-child { writing-mode: unset; transform: none; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr)); gap: 1rem;
  margin: 1rem 0; }
.plot { padding: .4rem .6rem .6rem; } .plot svg { width: 100%; height: auto; max-width: 520px;
  display: block; margin: auto; }
.plot figcaption { font-size: 1rem; font-weight: 600; padding: .2rem .3rem; }
.plot text { font-family: system-ui, sans-serif !important; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem .9rem; font-size: .85rem; padding: 0 .3rem; }
.legend i { display: inline-block; width: .9rem; height: .25rem; margin: 0 .35rem .2rem 0; vertical-align: middle; }
.plot .soft { font-size: .85rem; padding: 0 .3rem; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 270px), 1fr)); gap: 1rem;
  align-items: start; }
figure { margin: 0; background: var(--soft); border-radius: 8px; overflow: hidden; }
figure img { width: 100%; display: block; } figcaption { padding: .4rem .7rem; font-size: .85rem; }
.zoom { cursor: zoom-in; } .zoom.full { position: fixed; inset: 0; z-index: 9; overflow: auto; cursor: zoom-out;
  background: Canvas; border-radius: 0; } .full img { width: auto; max-width: none; margin: auto; }
details { border-left: 4px solid #8888; padding-left: .7rem; margin: .6rem 0; }
.remedy { display: block; margin-left: 1.1rem; opacity: .7; }
details.error { border-color: #dc2626; } details.warning { border-color: #f59e0b; }
"""

# A click or Enter shows a picture in its own size; another click or Escape closes it.
_SCRIPT = """
document.addEventListener("click", event => event.target.closest(".zoom")?.classList.toggle("full"));
document.addEventListener("keydown", event => {
  if (event.key === "Enter") document.activeElement.closest(".zoom")?.classList.toggle("full");
  if (event.key === "Escape") document.querySelectorAll(".full").forEach(figure => figure.classList.remove("full"));
});
"""

# A browser loads nothing from elsewhere and runs no other script, whatever a name in the page contains.
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    f"script-src 'sha256-{base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()}'"
)

_QUALITY = 85  # of a JPEG
_LONG_EDGE = 1600  # pixels, of the largest picture


def text(plain: str) -> str:
    """HTML of plain text. Control characters and unpaired surrogates, which a page cannot have, are escaped."""
    return html.escape(escaped_lines(plain))


def page(title: str, sections: Iterable[str]) -> str:
    """An HTML page. `sections` are HTML, `title` is plain text."""
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{_STYLE}</style>"
    )
    body = "\n".join([*sections, f"<script>{_SCRIPT}</script>"])
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def cards(entries: Iterable[tuple[str, str, str]]) -> str:
    """The most important numbers: (name, number, explanation), plain text."""
    boxes = (f"<div>{text(name)}<b>{text(number)}</b>{text(about)}</div>" for name, number, about in entries)
    return f'<div class="cards">{"".join(boxes)}</div>'


def table(caption: str, head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """An HTML table. Each row has a name and cells, all plain text; `head` may be empty."""
    lines = [f"<tr>{''.join(f'<th>{text(cell)}</th>' for cell in head)}</tr>"] if head else []
    lines += [f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in (name, *cells))}</tr>" for name, cells in rows]
    return _table(caption, lines)


def histogram(caption: str, counts: Mapping[str, float], texts: Mapping[str, str] | None = None) -> str:
    """An HTML table with name, number and bar for each count; names are plain text. `texts`: instead of the numbers."""
    most = max(counts.values(), default=0) or 1
    texts = texts or {name: f"{count:,}" for name, count in counts.items()}
    return _table(
        caption,
        [
            f"<tr><td>{text(name)}</td><td>{text(texts[name])}</td>"
            f'<td class="bar"><div style="width:{100 * max(count, 0) / most:.1f}%"></div></td></tr>'
            for name, count in counts.items()
        ],
    )


def heat_table(caption: str, corner: str, head: Sequence[str], rows: Iterable[tuple[str, Sequence[int]]]) -> str:
    """An HTML table of counts. The colour of a cell is its share of its row; 0 is left empty."""
    lines = [f"<tr>{''.join(f'<th>{text(cell)}</th>' for cell in (corner, *head))}</tr>"]
    for name, counts in rows:
        total = sum(counts) or 1
        cells = (
            f'<td style="background:rgba(14,116,144,{0.75 * count / total:.2f})">{count or ""}</td>' for count in counts
        )
        lines.append(f"<tr><td>{text(name)}</td>{''.join(cells)}</tr>")
    return _table(caption, lines, "heat")


def _table(caption: str, rows: Iterable[str], kind: str = "") -> str:
    class_ = f' class="{kind}"' if kind else ""
    return f"<div><table{class_}><caption>{text(caption)}</caption>{''.join(rows)}</table></div>"


def figure(caption: str, image: UInt8[np.ndarray, "h w 3"]) -> str:
    """An image with a caption below."""
    return picture(caption, encode(image))


def picture(caption: str, jpeg: bytes) -> str:
    """A JPEG file with a caption below. A click shows it in full size."""
    shown = text(caption)
    return (
        f'<figure class="zoom" tabindex="0"><img loading="lazy" alt="{shown}" src="{data_url(jpeg, "jpeg")}">'
        f"<figcaption>{shown}</figcaption></figure>"
    )


def encode(image: UInt8[np.ndarray, "h w 3"], scale: float = 1.0) -> bytes:
    """The JPEG file of an image; the long edge is at most 1,600 x scale pixels."""
    shrunk = min(1.0, scale * _LONG_EDGE / max(image.shape[:2]))
    if shrunk < 1:
        image = cv2.resize(image, None, fx=shrunk, fy=shrunk, interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)  # imencode takes three times as long for a reversed view
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()


def encode_within(images: Sequence[UInt8[np.ndarray, "_ _ 3"]], most_bytes: int) -> list[bytes]:
    """JPEG files of at most `most_bytes` together: if they are too large, all are made smaller."""
    scale = 1.0
    while sum(map(len, files := [encode(image, scale) for image in images])) > most_bytes:
        scale *= 0.75
    return files


def data_url(data: bytes, kind: str) -> str:
    """An image file as a data URL."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
