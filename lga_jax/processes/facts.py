"""What processes compare: nested dicts of JSON values."""

import hashlib
import importlib.metadata
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lga_jax.errors import UserError, shown

_PACKAGES = ("lga_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_PACKAGE_FOLDER = Path(__file__).parents[1]


def installation() -> dict[str, Any]:
    """Versions of Python and of the packages that compute or store, and a digest of each file of lga_jax."""
    return {
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "version of": {name: _version(name) for name in _PACKAGES},
        "code of": {
            path.relative_to(_PACKAGE_FOLDER.parent).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:12]
            for path in sorted(_PACKAGE_FOLDER.rglob("*.py"))
        },
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
        return "not installed"


def first_difference(facts: Mapping[int, Mapping[str, Any]]) -> dict[str, Any] | None:
    """The first process that differs from process 0, as the arguments of `difference_error`; None if all are equal."""
    ours = dict(_flat(facts[0]))
    for process in sorted(facts.keys() - {0}):
        theirs = dict(_flat(facts[process]))
        for name in (*ours, *(theirs.keys() - ours.keys())):
            if (name in ours, ours.get(name)) != (name in theirs, theirs.get(name)):
                expected, found = (shown(side[name]) if name in side else "nothing" for side in (ours, theirs))
                return {"process": process, "name": name, "expected": expected, "found": found}
    return None


def difference_error(process: int, name: str, expected: str, found: str) -> UserError:
    """The error for a process that differs from process 0."""
    return UserError(
        f"process {process}",
        expected=f"{name} {expected} as in process 0",
        found=found,
        remedy="start all processes with the same command, code, packages and data, and a shared workdir",
    )


def _flat(facts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The single values with their names: {"recipe": {"optim": {"lr": 1}}} gives ("recipe optim.lr", 1)."""
    for group, value in facts.items():
        for path, leaf in _leaves(value):
            yield " ".join([group, ".".join(path)]).strip(), leaf


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping):
        entries = value.items()
    elif isinstance(value, (list, tuple)):
        entries = enumerate(value)
    else:
        yield path, value
        return
    for key, entry in entries:
        yield from _leaves(entry, (*path, str(key)))
