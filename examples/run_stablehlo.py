"""Runs an exported detector without lga_jax: pip install jax numpy flatbuffers pillow

python run_stablehlo.py detector.stablehlo photo.jpg
"""

import io
import json
import os
import sys
import zipfile

import jax
import jax.export
import numpy as np


def load(path):
    """The header of the file, and a function: uint8 RGB image [height, width, 3] of any size -> arrays by name."""
    with zipfile.ZipFile(path) as archive:
        header = json.loads(archive.read("header.json"))
        parameters = jax.device_put(dict(np.load(io.BytesIO(archive.read("parameters.npz")))))
        names = {tuple(hw): "{}x{}.bin".format(*hw) for hw in header["sizes"]}
        programs = {hw: jax.jit(jax.export.deserialize(bytearray(archive.read(n))).call) for hw, n in names.items()}
    data = header["config"]["data"]

    def detect(image):
        hw = np.array(image.shape[:2])
        scale = min(data["eval_short_edge"] / hw.min(), data["long_edge"] / hw.max())
        scale, _, size = max((min(scale, *(size / hw)), -np.prod(size), size) for size in programs)
        content_hw = tuple(np.maximum(1, hw * scale + (data["size_rounding"] == "nearest") / 2).astype(int).tolist())
        resized = jax.image.resize(image.astype(np.float32), (*content_hw, 3), "bilinear", antialias=False)
        padded = np.zeros((*size, 3), np.uint8)
        padded[: content_hw[0], : content_hw[1]] = np.round(resized)
        found = programs[size](parameters, padded, np.float32(content_hw), np.float32(hw))
        return {name: np.asarray(values)[np.asarray(found["valid"])] for name, values in found.items()}

    return header, detect


if __name__ == "__main__":
    from PIL import Image

    # Compiling takes seconds. The next process finds the compiled program here, if the processor is the same.
    jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/run_stablehlo"))
    header, detect = load(sys.argv[1])
    found = detect(np.array(Image.open(sys.argv[2]).convert("RGB")))
    for label, score, box in zip(found["labels"], found["scores"], found["boxes"], strict=True):
        print(f"{header['class_names'][label]} {score:.4f} " + " ".join(f"{value:.2f}" for value in box))
