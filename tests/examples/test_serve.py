"""The server of examples/serve under load: every request gets an answer, also damaged images."""

import io
import json
import re
import runpy
import subprocess
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lga_jax.exporting.export import export
from tests.report.browser import BROWSER, needs_browser

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'lga_jax[test]'")
uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'lga_jax[test]'")
starlette = pytest.importorskip("starlette", reason="starlette is not installed: pip install 'lga_jax[test]'")
pytest.importorskip("starlette.routing")

SERVE = Path(__file__).parents[2] / "examples" / "serve" / "serve.py"
MOST_BYTES, MOST_PIXELS = 60_000, 20_000
DROP = """<script>
const dropped = (name, data) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([data], name));
  const event = new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
  document.getElementById("drop").dispatchEvent(event);
};
const say = (name, value) => document.body.setAttribute(name, value);
const until = async wanted => { while (!wanted()) await new Promise(done => setTimeout(done, 20)); };
(async () => {
  const source = new OffscreenCanvas(70, 50), pen = source.getContext("2d");
  for (let i = 0; i < 70; i += 7) { pen.fillStyle = `hsl(${i * 5} 90% 50%)`; pen.fillRect(i, i / 3, 9, 25); }
  dropped("a.png", await source.convertToBlob());
  await until(() => status.textContent.includes("object"));
  say("all", shown.detections.length);
  say("high", status.textContent);
  least.value = 0;
  least.dispatchEvent(new Event("input"));
  say("low", status.textContent);
  const colours = new Set(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data);
  say("size", `${canvas.width} ${canvas.height} ${colours.size > 20}`);
  dropped("b.png", "no image");
  await until(() => status.textContent.includes("expected"));
  say("refused", canvas.hidden);
})();
</script>"""


@pytest.fixture(scope="module")
def address(tiny_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("serve") / "detector.onnx"
    export(tiny_run / "runs" / "tiny", path, score_threshold=0.05)
    app = runpy.run_path(str(SERVE))["make_app"](str(path), MOST_BYTES, MOST_PIXELS, 120.0)
    page = (SERVE.parent / "page.html").read_text() + DROP
    app.router.routes.append(starlette.routing.Route("/try", lambda _: starlette.responses.HTMLResponse(page)))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def post(address, data):
    """Status and answer of a request."""
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{address}/detect", data), timeout=300) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def encoded(hw, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(sum(hw)).integers(0, 255, (*hw, 3), np.uint8)).save(file, kind)
    return file.getvalue()


def test_200_requests_8_at_a_time_are_all_answered(address, tiny_predictor):
    good, damaged = encoded((50, 70)), encoded((50, 70))[:300]
    requests = [damaged if number % 10 == 3 else good for number in range(200)]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda data: post(address, data), requests))
    assert [status for status, _ in answers] == [400 if data is damaged else 200 for data in requests]
    found = answers[0][1]
    assert all(answer == found for status, answer in answers if status == 200)
    assert (found["width"], found["height"]) == (70, 50) and found["detections"]
    image = np.asarray(Image.open(io.BytesIO(good)))
    best = tiny_predictor.predict(image, 0.05)[0]
    assert any(one["name"] == best.name and np.allclose(one["box"], best.box, atol=1.0) for one in found["detections"])


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"", 400), (b"no image", 400), (bytes(MOST_BYTES + 1), 413), (encoded((150, 150), "JPEG"), 413)],
)
def test_what_is_no_image_or_too_large_is_refused_with_a_reason(address, data, status):
    answer = post(address, data)
    assert answer[0] == status and answer[1]["error"].startswith("expected")


def test_the_page_is_there(address):
    with urllib.request.urlopen(address) as response:
        assert response.status == 200 and b"Drop an image here" in response.read()


@needs_browser
@pytest.mark.slow
def test_an_image_dropped_on_the_page_is_shown_with_its_objects(address, tmp_path):
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    command += ["--virtual-time-budget=60000", f"{address}/try"]  # waits for the requests of the page
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    seen = dict(re.findall(r'(all|high|low|size|refused)="([^"]*)"', re.search("<body[^>]*>", done.stdout)[0]))
    count = int(seen["all"])
    assert count > 0 and seen["low"].startswith(f"{count} of {count} object")
    assert int(seen["high"].split()[0]) < count  # scores of a tiny detector are low
    assert seen["size"] == "630 450 true" and seen["refused"] == "true"
