"""Reads weight files of any project into arrays by name. Code in a file is never run."""

import hashlib
import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import huggingface_hub
import numpy as np
from huggingface_hub import errors as hub_errors
from safetensors import safe_open

from lga_jax.archives import open_archive, read_arrays, unpacked_bytes
from lga_jax.errors import UserError, shown
from lga_jax.weights.array_pickle import PickledArray, unpickle_arrays
from lga_jax.weights.packages import find_in_package
from lga_jax.weights.torch_file import read_torch_archive, read_torch_row


class Weights(NamedTuple):
    """Arrays by their names in the file, and the metadata of the file."""

    where: str  # path or hf:// address as the user gave it
    arrays: dict[str, np.ndarray]  # floating-point arrays are float32
    class_names: tuple[str, ...] | None = None  # rows of the class predictor; None: unknown
    category_ids: tuple[int, ...] | None = None  # category ids of these classes in COCO results
    author: str = ""  # "__author__" of a Detectron2 file
    model: Mapping[str, Any] | None = None  # config.model of these weights, or the known part of it


_LIMIT = 4 * 2**30  # bytes; ten times the largest detector of this project
_NESTED = ("model", "state_dict", "model_state", "blobs")
# torch.hub puts the first digits of the SHA-256 into file names. A date of eight digits does not count.
_DIGEST = re.compile(r"-(?!20\d\d[01]\d[0-3]\d\.)([0-9a-f]{8,64})\.(?:pth|pt|pkl)$")
_HUB = re.compile(r"hf://([\w.-]+/[\w.-]+?)(?:@([^/@]+))?/(.+)")


def read_weights(place: str) -> Weights:
    """Reads a weight file (.npz, .safetensors, .pth, .pt, .bin, .pkl), hf://ORG/REPO[@REVISION]/FILE or package://NAME.

    NAME is one of weights.packages.PACKAGES.

    Nested state dicts are unwrapped, a common prefix "module." is removed, half precision becomes float32.
    Raises UserError if the place or the file is faulty.
    """
    path = _find(place)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "none"
        raise UserError(
            f"weights {place}",
            expected="a weight file",
            found=found,
            remedy="correct the path",
        )
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise UserError(
            f"weights {place}",
            expected=f"the extension {', '.join(_READERS)}",
            found=repr(suffix) if suffix else "none",
            remedy="convert the file",
        )
    _check_digest(place, path)
    try:
        content, metadata = _READERS[suffix](path)
        arrays = _arrays(_unwrap(content))
    except UserError as error:
        raise error.within(f"weights {place}") from None
    except MemoryError as error:
        raise UserError(
            f"weights {place}",
            expected="enough memory for its arrays",
            found="too little",
            remedy="free memory, or raise the limit",
        ) from error
    except Exception as error:  # damaged files raise many types
        raise UserError(
            f"weights {place}",
            expected=f"an intact {suffix} file of arrays",
            found=f"an unreadable one ({_line(error)})",
            remedy="download it again or convert it",
        ) from error
    author = content.get("__author__")
    class_names = _from_json(place, metadata, "class_names", _is_list_of(str))
    category_ids = _from_json(place, metadata, "category_ids", _are_ids)
    _check_classes(place, class_names, category_ids)
    if not arrays:
        raise UserError(
            f"weights {place}",
            expected="arrays by name",
            found="none",
            remedy="use a state dict",
        )
    return Weights(
        place,
        arrays,
        class_names=class_names,
        category_ids=category_ids,
        author=author if isinstance(author, str) else "",
        model=_from_json(place, metadata, "model", _is_section),
    )


def _find(place: str) -> Path:
    if place.startswith("hf://"):
        return _download(place)
    return find_in_package(place) if place.startswith("package://") else Path(place)


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
        found, remedy = "a gated repository", "accept its terms on huggingface.co and run `hf auth login`"
    except hub_errors.RepositoryNotFoundError:
        found = f"no repository {repository} (or a private one)"
        remedy = "correct the name or run `hf auth login`"
    except hub_errors.RevisionNotFoundError:
        found = f"no revision {revision or 'main'} of {repository}"
        remedy = "correct the revision after the @"
    except hub_errors.LocalEntryNotFoundError:
        found = "neither network nor a copy in the cache"
        remedy = "download it on a machine with a network and give the path of the file"
    except hub_errors.EntryNotFoundError:
        found, remedy = f"no file {file} in {repository}", "correct the name"
    except Exception as error:  # network, proxy and disk errors have many types
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
            expected=f"a SHA-256 that starts with {named[1]}, as in its name",
            found=str(digest[: len(named[1])]),
            remedy="download it again (or rename it if the digits are not a SHA-256)",
        )


def _read_npz(path: Path) -> tuple[dict, dict]:
    with open_archive(path) as archive:
        _check_size(unpacked_bytes(archive))
        return read_arrays(archive), {}


def _read_safetensors(path: Path) -> tuple[dict, dict]:
    _check_size(path.stat().st_size)
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _read_torch(path: Path) -> tuple[dict, dict]:
    _check_size(path.stat().st_size)
    if not zipfile.is_zipfile(path):
        return _mapping(read_torch_row(path)), {}
    with open_archive(path) as archive:
        _check_size(unpacked_bytes(archive))
        return _mapping(read_torch_archive(archive)), {}


def _read_pickle(path: Path) -> tuple[dict, dict]:
    if zipfile.is_zipfile(path):  # saved by torch in spite of the extension
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
            remedy="save only the model, without the optimizer",
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
    """The numeric arrays in `content`, without the momenta that Caffe2 saves beside its parameters.

    Raises UserError if they need more than _LIMIT: several can show the same bytes of a file.
    """
    values = {
        name: value.array if isinstance(value, PickledArray) else value
        for name, value in content.items()
        if isinstance(name, str) and name.isprintable() and not name.endswith("_momentum")
    }
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray) and _is_numeric(value)}
    _check_size(sum(max(array.itemsize, 4) * array.size for array in arrays.values()))
    with np.errstate(over="ignore"):  # infinities are reported later, with their parameter
        arrays = {
            name: array if array.dtype.kind in "biu" else array.astype(np.float32, copy=False)
            for name, array in arrays.items()
        }
    if arrays and all(name.startswith("module.") for name in arrays):
        arrays = {name.removeprefix("module."): value for name, value in arrays.items()}
    return arrays


def _is_numeric(array: np.ndarray) -> bool:
    return array.dtype.kind in "biu" or array.dtype.name.startswith(("float", "bfloat"))


def _from_json(place: str, metadata: Mapping[str, str], key: str, holds: Callable[[Any], bool]) -> Any:
    """A value of the metadata written by export-weights; None if missing. Lists become tuples."""
    if key not in metadata:
        return None
    try:
        value = json.loads(metadata[key])
    except (ValueError, RecursionError):
        value = None
    if not holds(value):
        raise UserError(
            f"weights {place}",
            expected=f"JSON as written by export-weights in the metadata {key}",
            found=shown(metadata[key][:60]),
            remedy="correct or remove it",
        )
    return tuple(value) if isinstance(value, list) else value


def _check_classes(place: str, names: Sequence[str] | None, ids: Sequence[int] | None) -> None:
    for key, values in (("class_names", names or ()), ("category_ids", ids or ())):
        if twice := [value for value, count in Counter(values).items() if count > 1]:
            raise UserError(
                f"weights {place}",
                expected=f"unique {key} in its metadata",
                found=f"{shown(twice[0])} several times",
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


def _are_ids(value: object) -> bool:
    return _is_list_of(int)(value) and all(abs(number) < 2**63 for number in value)


def _is_section(value: object, depth: int = 4) -> bool:
    """Whether it is a section of a recipe: sections inside sections, at most four, with values and lists of values."""
    if not isinstance(value, dict):
        return False
    inner = (entry for entry in value.values() if isinstance(entry, dict | list))
    return depth > 0 and all(
        _is_section(entry, depth - 1)
        if isinstance(entry, dict)
        else not any(isinstance(item, dict | list) for item in entry)
        for entry in inner
    )


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
