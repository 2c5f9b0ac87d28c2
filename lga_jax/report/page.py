"""Parts of the HTML reports. A report is one file and loads nothing else."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from lga_jax.errors import escaped_lines

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1240px; margin: 2rem auto; padding: 0 1rem;
  overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.soft { opacity: .7; margin-top: .2rem; }
.tables { display: flex; flex-wrap: wrap; gap: 1rem 3rem; align-items: flex-start; margin: 1.5rem 0; }
.tables > div { max-width: 100%; overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
td, th { padding: .15rem .7rem .15rem 0; border-bottom: 1px solid var(--line); text-align: right; font-weight: 400; }
td:first-child, th:first-child { text-align: left; }
.bar { width: min(15rem, 25vw); } .bar div { height: .8rem; background: #0891b2; }
.curves { width: 100%; background: white; border-radius: 8px; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(280px, 1fr)); gap: 1rem; }
figure { margin: 0; background: var(--soft); border-radius: 8px; overflow: hidden; }
figure img { width: 100%; display: block; } figcaption { padding: .4rem .7rem; font-size: .85rem; }
details { border-left: 4px solid #8888; padding-left: .7rem; margin: .6rem 0; }
.remedy { display: block; margin-left: 1.1rem; opacity: .7; }
details.error { border-color: #dc2626; } details.warning { border-color: #f59e0b; }
"""


def text(plain: str) -> str:
    """HTML of plain text. Control characters and unpaired surrogates, which a page cannot have, are escaped."""
    return html.escape(escaped_lines(plain))


def page(title: str, sections: Iterable[str]) -> str:
    """An HTML page. `sections` are HTML, `title` is plain text."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{_STYLE}</style>"
    )
    body = "\n".join(sections)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def table(caption: str, head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """An HTML table. Each row has a name and cells, all plain text; `head` may be empty."""
    lines = [f"<tr>{''.join(f'<th>{text(cell)}</th>' for cell in head)}</tr>"] if head else []
    lines += [f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in (name, *cells))}</tr>" for name, cells in rows]
    return _table(caption, lines)


def histogram(caption: str, counts: Mapping[str, int]) -> str:
    """An HTML table with name, number and bar for each count; names are plain text."""
    most = max(counts.values(), default=0) or 1
    return _table(
        caption,
        [
            f"<tr><td>{text(name)}</td><td>{count:,}</td>"
            f'<td class="bar"><div style="width:{100 * count / most:.1f}%"></div></td></tr>'
            for name, count in counts.items()
        ],
    )


def _table(caption: str, rows: Iterable[str]) -> str:
    return f"<div><table><caption>{text(caption)}</caption>{''.join(rows)}</table></div>"


def figure(caption: str, image: UInt8[np.ndarray, "h w 3"]) -> str:
    """An image with a caption below."""
    encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
    shown = text(caption)
    return (
        f'<figure><img loading="lazy" alt="{shown}" src="{data_url(encoded, "jpeg")}">'
        f"<figcaption>{shown}</figcaption></figure>"
    )


def data_url(data: bytes, kind: str) -> str:
    """An image file as a data URL."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
