"""Runs an exported detector with onnxruntime and numpy alone: pip install onnxruntime numpy pillow

python run_onnx.py detector.onnx photo.jpg
"""

import json
import sys

import numpy as np
import onnxruntime


def load(path):
    """Class names, and a function: uint8 RGB image [height, width, 3] of any size -> arrays by name."""
    session = onnxruntime.InferenceSession(path, providers=onnxruntime.get_available_providers())
    about = session.get_modelmeta().custom_metadata_map
    rule = json.loads(about["resizing"])
    size = np.array(session.get_inputs()[0].shape[:2])
    names = [output.name for output in session.get_outputs()]

    def detect(image):
        hw = np.array(image.shape[:2])
        scale = min(rule["eval_short_edge"] / hw.min(), rule["long_edge"] / hw.max(), *(size / hw))
        content_hw = np.maximum(1, hw * scale + (rule["size_rounding"] == "nearest") / 2).astype(int)
        padded = np.zeros((*size, 3), np.uint8)
        padded[: content_hw[0], : content_hw[1]] = resized(image, content_hw)
        inputs = dict(image=padded, image_hw=np.float32(content_hw), original_hw=np.float32(hw))
        found = dict(zip(names, session.run(names, inputs), strict=True))
        return {name: values[found["valid"]] for name, values in found.items()}

    return json.loads(about["class_names"]), detect


def resized(image, hw):
    """Bilinear, with pixel centres at one half."""
    rows, columns = (neighbours(old, new) for old, new in zip(image.shape[:2], hw, strict=True))
    image = image.astype(np.float32)
    image = image[rows[0]] * (1 - rows[2])[:, None, None] + image[rows[1]] * rows[2][:, None, None]
    image = image[:, columns[0]] * (1 - columns[2])[:, None] + image[:, columns[1]] * columns[2][:, None]
    return np.round(image).astype(np.uint8)


def neighbours(old, new):
    """For each new pixel along an axis: the pixel before, the pixel behind, and the weight of the latter."""
    place = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    low = np.floor(place).astype(int)
    return low, np.minimum(low + 1, old - 1), (place - low).astype(np.float32)


if __name__ == "__main__":
    from PIL import Image

    class_names, detect = load(sys.argv[1])
    found = detect(np.array(Image.open(sys.argv[2]).convert("RGB")))
    for label, score, box in zip(found["labels"], found["scores"], found["boxes"], strict=True):
        print(f"{class_names[label]} {score:.4f} " + " ".join(f"{value:.2f}" for value in box))
