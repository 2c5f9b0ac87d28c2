"""Intact files of every kind, to be mutated."""

import hashlib
import io
import json
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
from flax.traverse_util import flatten_dict
from PIL import Image
from safetensors.numpy import save_file

from lga_jax.checkpoints.damage import json_digest
from lga_jax.checkpoints.manifest import manifest_for_classes
from lga_jax.checkpoints.write import Checkpoints
from lga_jax.data.decode import decode_image
from lga_jax.inference.step import replicate
from lga_jax.models.build import build_detector, init_variables
from lga_jax.structs import TrainState
from tests.models import tiny
from tests.torture import recipe
from tests.weights import torch_writer

CLASSES = ("cat", "dog", "bus")


def annotated(folder: Path, data: bytes) -> dict[str, str]:
    """A folder with the images of tests.data.conftest.truth and these annotations; arguments of its source."""
    if not folder.exists():
        (folder / "images").mkdir(parents=True)
        for name in ("a.png", "b.png"):
            (folder / "images" / name).touch()
    (folder / "annotations.json").write_bytes(data)
    return dict(root=str(folder), annotations="annotations.json", images="images")


def images() -> list[tuple[str, bytes, np.ndarray]]:
    """(format, file, pixels) of one small picture in every format."""
    small = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    picture = Image.fromarray(cv2.resize(small, (42, 30), interpolation=cv2.INTER_CUBIC))
    kinds: list[tuple[str, str, dict]] = [
        *[("PNG", mode, {}) for mode in ("RGB", "P", "L", "RGBA", "I;16")],
        *[("JPEG", "RGB", {}), ("JPEG", "RGB", {"progressive": True}), ("JPEG", "CMYK", {}), ("JPEG", "L", {})],
        *[("WEBP", "RGB", {}), ("WEBP", "RGBA", {"lossless": True}), ("GIF", "P", {}), ("BMP", "RGB", {})],
        *[("TIFF", "RGB", {"compression": by}) for by in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg")],
        *[("TIFF", "F", {}), ("TIFF", "I;16", {}), ("PPM", "RGB", {}), ("AVIF", "RGB", {})],
    ]
    Image.init()
    return [_encoded(picture, *kind) for kind in kinds if kind[0] in Image.SAVE]


def _encoded(picture: Image.Image, kind: str, mode: str, options: dict) -> tuple[str, bytes, np.ndarray]:
    stream, grey = io.BytesIO(), np.asarray(picture.convert("L")).astype(np.uint16)
    converted = Image.fromarray(grey * 256) if mode == "I;16" else picture.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    converted.save(stream, kind, **options, **({"exif": exif} if kind == "JPEG" else {}))
    return f"{kind} {mode}", stream.getvalue(), decode_image(stream.getvalue(), kind).image


def sound_png(data: bytes) -> bool:
    """Whether the checksums of all chunks that decide about pixels fit, up to the end of the image."""
    place = 8
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        kind, content = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        checksum = data[place + 8 + length : place + 12 + length]
        if kind[:1].isupper() and checksum != struct.pack(">I", zlib.crc32(kind + content)):
            return False
        if kind == b"IEND":
            return True
        place += 12 + length
    return False


def detector() -> tuple[dict, dict]:
    """Variables of a tiny detector, and the section `model` of its recipe."""
    model = tiny.model_config()
    shapes = jax.eval_shape(lambda: init_variables(build_detector(model, len(CLASSES)), 0))
    return jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes), model.to_dict()


def weights(folder: Path, variables: dict) -> list[tuple[Path, dict[str, np.ndarray]]]:
    """(file, its arrays) in every format: the small arrays of the backbone."""
    flat = flatten_dict(variables, sep="/")
    arrays = {name: value for name, value in flat.items() if "backbone" in name and value.size < 1200}
    names = json.dumps(CLASSES)
    about = {"class_names": names, "category_ids": "[1, 2, 3]", "model": json.dumps({"backbone": {"norm_eps": 1e-5}})}
    np.savez(folder / "plain.npz", **arrays)
    np.savez_compressed(folder / "compressed.npz", **arrays)
    save_file(arrays, folder / "a.safetensors")
    save_file(arrays, folder / "about.safetensors", about)
    torch_writer.write_archive(folder / "archive.pth", torch_writer.as_tensors({"model": arrays}))
    torch_writer.write_row(folder / "row.pt", torch_writer.as_tensors(arrays))
    content = {"model": arrays, "__author__": "a", "matching_heuristics": True}
    for protocol in (0, 2, 4, 5):
        (folder / f"protocol{protocol}.pkl").write_bytes(pickle.dumps(content, protocol))
    archive = (folder / "archive.pth").read_bytes()
    (folder / f"named-{hashlib.sha256(archive).hexdigest()[:8]}.pth").write_bytes(archive)
    return [(path, arrays) for path in sorted(folder.iterdir())]


def has_checksums(path: Path) -> bool:
    """Archives of zip have one for each array."""
    return path.suffix in (".npz", ".pth")


def names_digest(path: Path) -> bool:
    """Whether the file's name has the first digits of its SHA-256."""
    return path.name.startswith("named-")


def write_run(workdir: Path) -> dict:
    """A checkpoint of the small recipe with the manifest of a real one and few arrays; returns the manifest."""
    namespace: dict[str, Any] = {}
    exec(recipe.SMALL, namespace)
    params = {"conv": {"kernel": np.ones((2, 3), np.float32)}}
    state = TrainState(np.int32(1), params, {}, (), None)
    manifest = manifest_for_classes(namespace["get_config"](), CLASSES, (1, 2, 3), params)
    with Checkpoints(str(workdir)) as checkpoints:
        checkpoints.save(1, replicate(state), {}, manifest)
    return json.loads(_manifest_file(workdir).read_text())


def write_manifest(workdir: Path, manifest: Any, seal: bool) -> None:
    """Replaces the manifest of that checkpoint, by bytes or by JSON; `seal`: with a digest that fits."""
    if seal and isinstance(manifest, dict) and isinstance(manifest.get("digests"), dict):
        digests = {name: value for name, value in manifest["digests"].items() if name != "manifest"}
        own = json_digest({**manifest, "digests": digests})
        manifest = {**manifest, "digests": {**digests, "manifest": own}}
    data = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    _manifest_file(workdir).write_bytes(data)


def _manifest_file(workdir: Path) -> Path:
    return workdir / "checkpoints" / "1" / "manifest" / "metadata"
