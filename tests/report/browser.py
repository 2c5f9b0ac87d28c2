"""Opens pages in a headless Chromium and returns what it shows."""

import html
import json
import re
import shutil
import subprocess

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")

_LEAST_WINDOW = 500  # pixels; a narrower page is opened in a frame
_COLLECT = """<script>
window.errors = []; window.onerror = text => { errors.push(String(text)); };
console.error = (...words) => { errors.push(words.join(" ")); };
</script>"""
_MEASURE = """<script>
window.addEventListener("load", () => {
  const box = element => { const r = element.getBoundingClientRect(); return [r.width, r.height]; };
  const drawn = svg => [...svg.querySelectorAll("path")]
    .filter(path => !path.closest("defs") && path.getAttribute("style").includes("stroke: #"))
    .map(path => [path.getTotalLength(), ...box(path)]);
  const seen = {
    errors, width: document.documentElement.scrollWidth,
    ink: getComputedStyle(document.body).color,
    images: [...document.querySelectorAll("img")].map(image => [image.naturalWidth, ...box(image)]),
    plots: [...document.querySelectorAll(".plot svg")].map(svg => ({
      size: box(svg), texts: svg.querySelectorAll("text").length, lines: drawn(svg),
      axis: getComputedStyle(svg.querySelector("text")).fill,
    })),
  };
  const first = document.querySelector(".zoom");
  if (first) { first.click(); seen.zoomed = box(first.querySelector("img")); first.click(); seen.back = box(first); }
  const result = parent.document.createElement("pre");
  result.id = "seen"; result.textContent = JSON.stringify(seen);
  parent.document.body.append(result);
});
</script>"""
_FRAME = """<!doctype html><style>:root { color-scheme: light dark }</style><body>
<iframe width="WIDTH" height="800" srcdoc="PAGE"></iframe></body>"""


def open_page(page, folder, width=1400, dark=False):
    """What Chromium shows of a page with a width in pixels: sizes of pictures and plots, their lines, and errors."""
    page = re.sub("script-src '[^']*'", "script-src 'unsafe-inline'", page)  # the policy refuses other scripts
    page = page.replace("<head>", f"<head>{_COLLECT}", 1).replace("</body>", f"{_MEASURE}</body>", 1)
    page = page.replace('loading="lazy"', "")  # the event `load` then waits for all pictures
    if width < _LEAST_WINDOW:
        page = _FRAME.replace("WIDTH", str(width)).replace("PAGE", html.escape(page))
    path = folder / "page.html"
    path.write_text(page)
    command = [
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom"),
        *(f"--user-data-dir={folder / 'profile'}", f"--window-size={max(width, _LEAST_WINDOW)},900"),
        *(["--blink-settings=preferredColorScheme=0"] if dark else []),
        path.as_uri(),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    found = re.findall(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr
    return json.loads(html.unescape(found[-1]))


def check_page(seen, width):
    """The page fits, has no errors, and no plot and no picture is blank."""
    assert seen["errors"] == []
    assert seen["width"] <= width
    for natural, shown, height in seen["images"]:
        assert natural > 0 and shown >= 200 and height > 50
    for plot in seen["plots"]:
        assert plot["size"][0] >= 300 and plot["size"][1] >= 150 and plot["texts"] >= 6
        assert any(length > 50 and max(box) > 50 for length, *box in plot["lines"]), "a plot without a line"
