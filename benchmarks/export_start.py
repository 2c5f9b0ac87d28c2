"""Where the time from a file to the first detection goes: the parts of the start of a fresh process.

    python -m benchmarks.export_start detector.stablehlo
    python -m benchmarks.export_start detector.onnx

The module is this process: each part is measured once, from the start of the interpreter, as wall and processor time of
all threads. Options of XLA's compiler may follow the file: xla_backend_optimization_level=0. JAX_COMPILATION_CACHE_DIR
names a folder of compiled programs. The image is noise in the size of the file.
"""

import hashlib
import io
import json
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

Parts = Iterator[str]


def main() -> None:
    path, *options = sys.argv[1:]
    parts = _onnx(path) if path.endswith(".onnx") else _stablehlo(path, dict(option.split("=") for option in options))
    print(f"| part | seconds | CPU-s |\n|---|---|---|\n| start of Python | | {time.process_time():.2f} |")
    start, used = time.perf_counter(), time.process_time()
    for part in parts:
        print(f"| {part} | {time.perf_counter() - start:.2f} | {time.process_time() - used:.2f} |", flush=True)
        start, used = time.perf_counter(), time.process_time()


def _stablehlo(path: str, options: dict[str, str]) -> Parts:
    import jax
    import jax.export
    import numpy as np

    yield "import jax"
    with zipfile.ZipFile(path) as archive:
        header = json.loads(archive.read("header.json"))
        size = header["sizes"][0]
        parameters = jax.device_put(dict(np.load(io.BytesIO(archive.read("parameters.npz")))))
        program = archive.read("{}x{}.bin".format(*size))
    yield "read the file"
    hashlib.sha256(program).digest(), [hashlib.sha256(leaf).digest() for leaf in map(np.asarray, parameters.values())]
    yield "SHA-256 of its content, which `lga_jax.load` checks"
    function = jax.jit(jax.export.deserialize(bytearray(program)).call)
    image, pair = _image(size), np.float32(size)
    lowered = function.lower(parameters, image, pair, pair)
    yield "deserialize and lower"
    compiled = lowered.compile(compiler_options=options or None)
    yield "compile"
    yield from _images(lambda: jax.block_until_ready(compiled(parameters, image, pair, pair)))


def _onnx(path: str) -> Parts:
    import numpy as np
    import onnxruntime

    yield "import onnxruntime"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    yield "make the session"
    size = session.get_inputs()[0].shape[:2]
    inputs = dict(image=_image(size), image_hw=np.float32(size), original_hw=np.float32(size))
    yield from _images(lambda: session.run(None, inputs))


def _image(size: list[int]) -> Any:
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)


def _images(detect: Callable[[], Any]) -> Parts:
    for name in ("first", "second", "third"):
        detect()
        yield f"the {name} image"


if __name__ == "__main__":
    main()
