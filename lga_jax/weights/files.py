"""Files of weights: from the place a user names to arrays by name, whoever wrote them. No code in them is ever run."""

import hashlib
import json
import pickle
import re
import zipfile
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import huggingface_hub
import numpy as np
from huggingface_hub import errors as hub_errors
from safetensors import safe_open

from lga_jax.errors import UserError
from lga_jax.weights.array_pickle import PickledArray, forbidden, unpickle_arrays


class Weights(NamedTuple):
    """Arrays by the names they have where they come from, and what is said there about them."""

    where: str  # as the user named it
    arrays: dict[str, np.ndarray]  # floating point ones are float32
    class_names: tuple[str, ...] | None = None  # of the rows of the class predictor, where known
    category_ids: tuple[int, ...] | None = None  # that COCO results give these classes
    author: str = ""  # what a Detectron2 file says in "__author__"
    model: Mapping[str, Any] | None = None  # config.model, or the part of it that is known to belong to them


_LIMIT = 4 * 2**30  # bytes; ten times the largest detector that fits here
_TORCH = (2, 10)  # older ones can be made to run code by what they read (CVE-2025-32434, CVE-2026-24747)
_NESTED = ("model", "state_dict", "model_state", "blobs")
# As torch.hub names files: the first digits of their SHA-256. Eight digits that are a date are no such thing.
_DIGEST = re.compile(r"-(?!20\d\d[01]\d[0-3]\d\.)([0-9a-f]{8,64})\.(?:pth|pt|pkl)$")
_HUB = re.compile(r"hf://([\w.-]+/[\w.-]+?)(?:@([^/@]+))?/(.+)")


def read_weights(place: str) -> Weights:
    """The weights in a file (.npz, .safetensors, .pth, .pt, .bin, .pkl) or at hf://ORG/REPO[@REVISION]/FILE.

    Nested state dicts are unwrapped, a "module." before all names is taken off, half precision becomes float32.
    Raises UserError, in one line, for whatever is wrong with the place or the file.
    """
    path = _download(place) if place.startswith("hf://") else Path(place)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "none"
        raise UserError(
            f"weights {place}",
            expected="a file of weights",
            found=found,
            remedy="correct the path",
        )
    suffix = Path(place).suffix.lower()
    if suffix not in _READERS:
        raise UserError(
            f"weights {place}",
            expected=f"a name that ends in {', '.join(_READERS)}",
            found=f"{suffix or 'none of them'!r}",
            remedy="convert the file",
        )
    _check_digest(place, path)
    try:
        content, metadata = _READERS[suffix](path)
    except UserError as error:
        raise error.within(f"weights {place}") from None
    except Exception as error:  # what a damaged file makes its reader raise is anybody's guess
        raise UserError(
            f"weights {place}",
            expected=f"a sound {suffix} file of arrays",
            found=f"it unreadable ({_line(error)})",
            remedy="get it anew or convert it",
        ) from error
    author = content.get("__author__")
    class_names = _from_json(place, metadata, "class_names", _is_list_of(str))
    category_ids = _from_json(place, metadata, "category_ids", _is_list_of(int))
    _check_classes(place, class_names, category_ids)
    arrays = _arrays(_unwrap(content))
    if not arrays:
        raise UserError(
            f"weights {place}",
            expected="arrays by name",
            found="none",
            remedy="give a state dict",
        )
    return Weights(
        place,
        arrays,
        class_names=class_names,
        category_ids=category_ids,
        author=author if isinstance(author, str) else "",
        model=_from_json(place, metadata, "model", lambda value: isinstance(value, dict)),
    )


def _download(place: str) -> Path:
    parts = _HUB.fullmatch(place)
    if not parts:
        raise UserError(
            f"weights {place}",
            expected="hf://ORG/REPO[@REVISION]/FILE",
            found="another form",
            remedy="correct it",
        )
    repository, revision, file = parts.groups()
    try:
        return Path(huggingface_hub.hf_hub_download(repository, file, revision=revision))
    except hub_errors.GatedRepoError:
        found, remedy = "it gated", "accept its terms on huggingface.co and run `hf auth login`"
    except hub_errors.RepositoryNotFoundError:
        found = f"no repository {repository} (or a private one)"
        remedy = "correct the name or run `hf auth login`"
    except hub_errors.RevisionNotFoundError:
        found = f"no revision {revision or 'main'} of {repository}"
        remedy = "correct what stands behind the @"
    except hub_errors.LocalEntryNotFoundError:
        found = "neither network nor a copy in the cache"
        remedy = "download it where there is a network and give the file"
    except hub_errors.EntryNotFoundError:
        found, remedy = f"no file {file} in {repository}", "correct the name"
    except Exception as error:  # of the network, the proxy, the disk of the cache
        found, remedy = _line(error), "try again, or download the file and give its path"
    raise UserError(
        f"weights {place}",
        expected="a file to download",
        found=found,
        remedy=remedy,
    )


def _check_digest(place: str, path: Path) -> None:
    named = _DIGEST.search(place)
    if not named:
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(named[1]):
        raise UserError(
            f"weights {place}",
            expected=f"the SHA-256 that its name begins to tell, {named[1]}",
            found=str(digest[: len(named[1])]),
            remedy="download it again (or rename it, if the digits mean something else)",
        )


def _read_npz(path: Path) -> tuple[dict, dict]:
    with zipfile.ZipFile(path) as archive:
        _check_size(sum(member.file_size for member in archive.infolist()))
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}, {}


def _read_safetensors(path: Path) -> tuple[dict, dict]:
    _check_size(path.stat().st_size)
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _read_torch(path: Path) -> tuple[dict, dict]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            _check_size(sum(member.file_size for member in archive.infolist()))
    else:
        _check_size(path.stat().st_size)
    try:
        import torch
    except ImportError:
        raise UserError(
            "",
            expected="torch, which reads this format",
            found="it not installed",
            remedy="pip install 'lga_jax[torch]', or convert the file to .safetensors where torch is",
        ) from None
    if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < _TORCH:
        raise UserError(
            "",
            expected=f"torch {'.'.join(map(str, _TORCH))} or newer, which reads this format safely",
            found=str(torch.__version__),
            remedy="pip install -U 'lga_jax[torch]'",
        )
    try:
        with torch.serialization.safe_globals([Namespace]):  # torchvision's training scripts save their flags
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if named := re.search(r"GLOBAL (\S+)", str(error)):
            raise forbidden(named[1]) from None
        raise
    content = _mapping(content)
    _check_size(_num_bytes(content, torch))
    return _tensors_to_numpy(content, torch), {}


def _num_bytes(content: Mapping, torch: Any, depth: int = 3) -> int:
    """Of all tensors as arrays of floats: views can be larger than what was stored."""
    values = content.values()
    inner = sum(_num_bytes(value, torch, depth - 1) for value in values if isinstance(value, Mapping) and depth)
    return inner + sum(max(value.itemsize, 4) * value.numel() for value in values if isinstance(value, torch.Tensor))


def _tensors_to_numpy(content: Mapping, torch: Any, depth: int = 3) -> dict:
    converted = {}
    for name, value in content.items():
        if isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_quantized:
            value = value.detach()
            value = (value.float() if value.is_floating_point() else value).numpy()
        elif isinstance(value, Mapping) and depth:
            value = _tensors_to_numpy(value, torch, depth - 1)
        converted[name] = value
    return converted


def _read_pickle(path: Path) -> tuple[dict, dict]:
    if zipfile.is_zipfile(path):  # saved with torch, whatever its name says
        return _read_torch(path)
    _check_size(path.stat().st_size)
    return _mapping(unpickle_arrays(path.read_bytes())), {}


_READERS: dict[str, Callable[[Path], tuple[dict, dict]]] = {
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".bin": _read_torch,
    ".pkl": _read_pickle,
}


def _check_size(num_bytes: int) -> None:
    if num_bytes > _LIMIT:
        raise UserError(
            "",
            expected=f"at most {_LIMIT / 2**30:.0f} GiB of arrays",
            found=f"{num_bytes / 2**30:.0f}",
            remedy="save the model alone",
        )


def _mapping(content: Any) -> Mapping:
    if not isinstance(content, Mapping):
        raise UserError(
            "",
            expected="arrays by name",
            found=f"a {type(content).__name__}",
            remedy="save the model's state dict",
        )
    return content


def _unwrap(content: Mapping) -> Mapping:
    for _ in range(4):
        inner = next((content[key] for key in _NESTED if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    return content


def _arrays(content: Mapping) -> dict[str, np.ndarray]:
    """The arrays of numbers in `content`. Momenta that Caffe2 saves beside its parameters are no weights."""
    arrays = {}
    for name, value in content.items():
        value = value.array if isinstance(value, PickledArray) else value
        is_named = isinstance(name, str) and name.isprintable() and not name.endswith("_momentum")
        if is_named and isinstance(value, np.ndarray):
            if value.dtype.name.startswith(("float", "bfloat")):
                with np.errstate(over="ignore"):  # infinities are found where it is known what they are for
                    arrays[name] = value.astype(np.float32, copy=False)
            elif value.dtype.kind in "biu":
                arrays[name] = value
    if arrays and all(name.startswith("module.") for name in arrays):
        arrays = {name.removeprefix("module."): value for name, value in arrays.items()}
    return arrays


def _from_json(place: str, metadata: Mapping[str, str], key: str, holds: Callable[[Any], bool]) -> Any:
    """A value out of the metadata that our exports write; None where there is none. Lists become tuples."""
    if key not in metadata:
        return None
    try:
        value = json.loads(metadata[key])
    except ValueError:
        value = None
    if not holds(value):
        raise UserError(
            f"weights {place}",
            expected=f"JSON of the kind that export_weights writes in its metadata's {key}",
            found=f"{metadata[key][:60]!r}",
            remedy="correct or remove it",
        )
    return tuple(value) if isinstance(value, list) else value


def _check_classes(place: str, names: Sequence[str] | None, ids: Sequence[int] | None) -> None:
    for key, values in (("class_names", names or ()), ("category_ids", ids or ())):
        if twice := [value for value in values if values.count(value) > 1]:
            raise UserError(
                f"weights {place}",
                expected=f"each of its metadata's {key} once",
                found=f"{twice[0]!r} several times",
                remedy="correct them",
            )
    if ids is not None and len(ids) != len(names or ()):
        raise UserError(
            f"weights {place}",
            expected=f"as many category_ids in its metadata as class_names ({len(names or ())})",
            found=str(len(ids)),
            remedy="correct or remove them",
        )


def _is_list_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and bool(value) and all(type(entry) is kind for entry in value)


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
