"""Serves an exported detector: a page to drop an image on, and POST /detect. Needs no lga_jax.

    pip install onnxruntime numpy pillow starlette uvicorn
    python examples/serve/serve.py detector.onnx --port 8000
    curl --data-binary @photo.jpg http://localhost:8000/detect

A request is the bytes of an image file, the answer is JSON. Too large a file gives status 413, a file that is no image
400, and a request that waits longer than --seconds 503. onnxruntime uses all cores for one image, so the detector sees
one image at a time; others wait.
"""

import argparse
import io
import runpy
from pathlib import Path

import anyio
import numpy as np
import uvicorn
from PIL import Image, ImageOps
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Route

HERE = Path(__file__).parent


def make_app(model: str, most_bytes: int, most_pixels: int, seconds: float) -> Starlette:
    """The application for the file of a detector, with limits for every request."""
    class_names, detect = runpy.run_path(str(HERE.parent / "run_onnx.py"))["load"](model)
    one_at_a_time = anyio.CapacityLimiter(1)

    def answer(data: bytes) -> dict:
        image = decode(data, most_pixels)
        found = {name: values.tolist() for name, values in detect(image).items()}
        detections = [
            {"name": class_names[label], "score": round(score, 4), "box": [round(side, 2) for side in box]}
            for label, score, box in zip(found["labels"], found["scores"], found["boxes"], strict=True)
        ]
        for detection, centres in zip(detections, found.get("mask_centres", ()), strict=False):
            detection["mask_centres"] = centres
        return {"width": image.shape[1], "height": image.shape[0], "detections": detections}

    async def post(request: Request) -> JSONResponse:
        data = await body(request, most_bytes)
        try:
            with anyio.fail_after(seconds):
                found = await anyio.to_thread.run_sync(answer, data, limiter=one_at_a_time, abandon_on_cancel=True)
        except TimeoutError:
            raise HTTPException(503, f"no answer within {seconds:g} seconds; try again") from None
        return JSONResponse(found)

    async def page(request: Request) -> FileResponse:
        return FileResponse(HERE / "page.html")

    async def failed(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code)

    routes = [Route("/", page), Route("/detect", post, methods=["POST"])]
    return Starlette(routes=routes, exception_handlers={HTTPException: failed})


async def body(request: Request, most_bytes: int) -> bytes:
    """The body of a request. Reading ends where it becomes too large."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > most_bytes:
            raise HTTPException(413, f"expected a file of at most {most_bytes} bytes")
    return bytes(data)


def decode(data: bytes, most_pixels: int) -> np.ndarray:
    """Upright RGB pixels [height, width, 3]. Raises HTTPException for a file that is no image."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP", "BMP", "GIF")) as image:
            if image.width * image.height > most_pixels:
                raise HTTPException(413, f"expected an image of at most {most_pixels} pixels")
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except HTTPException:
        raise
    except Exception as error:  # decoders raise many types for damaged files
        raise HTTPException(400, "expected the bytes of an image file") from error


def main() -> None:
    """Reads the flags and serves until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="The file that lga_jax export --format onnx wrote.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--megabytes", type=int, default=20, help="The largest file.")
    parser.add_argument("--megapixels", type=int, default=50, help="The largest image.")
    parser.add_argument("--seconds", type=float, default=30, help="The longest wait of a request.")
    args = parser.parse_args()
    app = make_app(args.model, args.megabytes * 2**20, args.megapixels * 10**6, args.seconds)
    uvicorn.run(app, host=args.host, port=args.port, limit_concurrency=64)


if __name__ == "__main__":
    main()
