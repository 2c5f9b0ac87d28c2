"""Damaged and hostile weight files, images, manifests and exported files, the same ones for the same number.

    python -m tests.mutations weights --count 2000

prints how many were read and how many refused. A trial fails if it raises anything but a UserError of one line, takes
more than ten seconds, or reads other values where the format has a checksum.
"""

import argparse
import collections
import copy
import io
import json
import pickle
import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import safetensors.numpy
from PIL import Image, features

from configs import coco
from lga_jax.checkpoints.manifest import FORMAT, check_format, check_whole, recipe_of, sealed
from lga_jax.data.decode import decode_image
from lga_jax.errors import UserError
from lga_jax.weights.files import read_weights
from tests.weights.torch_writer import as_tensors, write_archive, write_row

SECONDS = 10  # the longest trial
MEMORY = 16 * 2**30  # addresses of a process that runs trials

# Values that readers have stumbled over.
VALUES = (
    *(None, True, "", "x" * 10_000, "\n\x1b[31m", "\ud800", "../../etc/passwd", "nan", -1, 0, 1, 2**31, 2**63, 10**30),
    *(1e308, float("nan"), float("inf"), [], {}, [[]] * 3, [1] * 1000, {"a": {"b": {"c": 1}}}),
)
BLOCKS = (
    b"\xff" * 8,
    bytes(8),
    b"\x7f\xff\xff\xff",
    b"(((((((",
    b"))))",
    b"\x85" * 100,
    b"[" * 1000,
    b"PK\x01\x02",
    b"\n",
)


def mutated(data: bytes, seed: int) -> bytes:
    """Changes bytes in one to three ways: other bits, cut, zeros, a block removed, repeated, moved or replaced."""
    rng = np.random.default_rng(seed)
    for _ in range(rng.integers(1, 4)):
        data = _changed(data, rng)
    return data


def _changed(data: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(data) + 1))
    # Headers decide most: half of the changes are at the beginning.
    start = start % 200 if rng.random() < 0.5 else start
    end = start + int(rng.integers(1, 64))
    match rng.integers(12):  # a bit as often as all others
        case 0:
            return data[:start]
        case 1:
            return data[:start] + data[end:]
        case 2:
            return data[:end] + data[start:]
        case 3:
            return data[:start] + bytes(len(data[start:end])) + data[end:]
        case 4:
            return data[:start] + BLOCKS[rng.integers(len(BLOCKS))] + data[start:]
        case 5:
            block = BLOCKS[rng.integers(len(BLOCKS))]
            return data[:start] + block + data[start + len(block) :]
        case 6:
            other = int(rng.integers(len(data) + 1))
            return data[:start] + data[other : other + end - start] + data[end:]
        case _:
            bits = bytes([data[start] ^ (1 << int(rng.integers(8)))]) if start < len(data) else b""
            return data[:start] + bits + data[start + 1 :]


def mutated_json(content: object, seed: int) -> object:
    """Changes one to three entries of a tree of dictionaries and lists: another value, removed, added, or moved."""
    rng, content = np.random.default_rng(seed), copy.deepcopy(content)
    for _ in range(rng.integers(1, 4)):
        places = list(_places(content))
        holder, key = places[rng.integers(len(places))]
        match rng.integers(5):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[f"{key}x"] = holder[key]
            case 2:
                other, name = places[rng.integers(len(places))]
                holder[key] = copy.deepcopy(other[name]) if _is_there(other, name) else None
            case _:
                holder[key] = copy.deepcopy(VALUES[rng.integers(len(VALUES))])
        if not content:
            break
    return content


def _is_there(holder: dict | list, key: object) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)


def _places(content: object) -> object:
    """(dictionary or list, key) of every entry of a tree."""
    items = list(content.items()) if isinstance(content, dict) else list(enumerate(content))
    for key, value in items:
        yield content, key
        if isinstance(value, dict | list):
            yield from _places(value)


@cache
def weight_files() -> Mapping[str, bytes]:
    """A small file of each format by its extension; .old.pth is PyTorch's older kind."""
    rng = np.random.default_rng(0)
    arrays = {f"layer{n}.weight": rng.normal(size=(3, 4)).astype(np.float32) for n in range(3)} | {"count": np.array(3)}
    content = {"model": arrays, "epoch": 3}
    about = {"class_names": '["a", "b"]', "category_ids": "[3, 7]", "model": '{"backbone": {"norm_eps": 1e-05}}'}
    files = {
        ".pkl": pickle.dumps(content, 2),
        ".5.pkl": pickle.dumps(content, 5),
        ".0.pkl": pickle.dumps(content, 0),
        ".safetensors": safetensors.numpy.save(arrays, about),
    }
    for name, save in ((".npz", np.savez), (".small.npz", np.savez_compressed)):
        stream = io.BytesIO()
        save(stream, **arrays)
        files[name] = stream.getvalue()
    with tempfile.TemporaryDirectory() as folder:
        for name, write in ((".pth", write_archive), (".old.pth", write_row)):
            write(Path(folder, "w"), as_tensors(content))
            files[name] = Path(folder, "w").read_bytes()
    return files


@cache
def images() -> Mapping[str, bytes]:
    """A small image of each format."""
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 255, (24, 32, 3), np.uint8))
    kinds = {
        **{kind: (colours, {}) for kind in ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM")},
        "GIF": (colours.convert("P"), {}),
        "progressive JPEG": (colours, dict(progressive=True)),
        "CMYK JPEG": (colours.convert("CMYK"), {}),
        "palette PNG": (colours.convert("P"), {}),
        "deep PNG": (Image.fromarray(rng.integers(0, 65535, (24, 32)).astype(np.uint16)), {}),
        "compressed TIFF": (colours, dict(compression="tiff_lzw")),
        "float TIFF": (Image.fromarray(rng.random((24, 32)).astype(np.float32)), {}),
        **({"AVIF": (colours, {})} if features.check("avif") else {}),
    }
    found = {}
    for name, (image, settings) in kinds.items():
        stream = io.BytesIO()
        image.save(stream, name.split()[-1], **settings)
        found[name] = stream.getvalue()
    return found


@cache
def manifest() -> dict:
    """A manifest of step 7, without its digest."""
    return {
        "version": "0.2.0",
        "format": FORMAT,
        "config": json.loads(coco.get_config().to_json()),
        "class_names": ["car", "bus"],
        "category_ids": [1, 7],
        "parameters": {"conv/kernel": [[2, 3], "float32"]},
        "schedule_start": 0,
        "step": 7,
        "digests": {"variables": "0" * 64, "optimizer": "1" * 64, "data": "2" * 64},
    }


def try_weights(seed: int) -> str:
    """Reads a mutated weight file."""
    name, data = list(weight_files().items())[seed % len(weight_files())]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"w{name}")
        path.write_bytes(mutated(data, seed))
        weights = read_weights(str(path))
        path.write_bytes(data)
        whole = read_weights(str(path))
    if name.endswith((".npz", ".pth")) and ".old" not in name:  # with a checksum
        same = all(np.array_equal(array, whole.arrays.get(key)) for key, array in weights.arrays.items())
        assert same, "other values in spite of a checksum"
    return "read"


def try_images(seed: int) -> str:
    """Decodes a mutated image."""
    data = list(images().values())[seed % len(images())]
    image = decode_image(mutated(data, seed), "image").image
    assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
    return "read"


def try_manifests(seed: int) -> str:
    """Checks a mutated manifest with a digest of its own, as a stranger could write it, and its recipe."""
    content = mutated_json(manifest(), seed)
    try:
        if isinstance(content, dict) and isinstance(content.get("digests"), dict):
            digests = {key: value for key, value in content["digests"].items() if key != "manifest"}
            content = sealed(content, content.get("step"), digests)
        check_whole(content, 7)
    except (ValueError, TypeError, RecursionError) as error:  # damage, for the reader of a checkpoint
        raise UserError("manifest", found=type(error).__name__) from error
    check_format(content, "manifest")
    recipe_of(content, "manifest")
    return "read"


KINDS: Mapping[str, Callable[[int], str]] = {
    "weights": try_weights,
    "images": try_images,
    "manifests": try_manifests,
}


def outcome(kind: str, seed: int) -> str:
    """'read' or 'refused'. Raises AssertionError if the trial fails, and what the reader raised but should not."""
    start, fault = time.perf_counter(), UserError("none")
    try:
        found = KINDS[kind](seed)
    except UserError as error:
        found, fault = "refused", error
    lines = str(fault).splitlines()
    assert len(lines) == len(getattr(fault, "faults", [fault])), str(fault)
    taken = time.perf_counter() - start
    assert taken < SECONDS, f"{taken:.1f} s"
    return found


def main() -> None:
    """Runs trials with the numbers 0, 1, ... and prints each failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    outcomes = collections.Counter()
    for seed in range(given.first, given.first + given.count):
        try:
            outcomes[outcome(given.kind, seed)] += 1
        except Exception as error:
            outcomes["failed"] += 1
            print(f"{given.kind} {seed}: {type(error).__name__}: {str(error)[:300]}")
    print(f"{given.kind}: {dict(outcomes)}")


if __name__ == "__main__":
    main()
