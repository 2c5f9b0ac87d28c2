"""Mutations of bytes and of JSON content, each a function of a random generator."""

import copy
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

_VALUES = (
    *(None, True, False, 0, 1, -1, 2, 7, 0.5, -0.0, 1e-320, 1e308, -1e308, math.nan, math.inf, 2**31, 2**63, -(2**63)),
    *(10**30, 10**400, "", "0", "a", "nan", "x" * 5000, "\x1b[31m", "a\nb", "\ud800", "../../etc/passwd", "/dev/zero"),
    *([], {}, [[]], [0, 0, 0, 0], {"a": 1}, [1e308] * 4, ["a"] * 1000, {"": {"": {}}}),
)
_DEEP = 500
# Opcodes of pickles, brackets of JSON and of headers of numpy, starts of records of zip.
_BLOCKS = (
    b"\x85" * 200,
    b"]" * 200 + b"a" * 199,
    b"(" * 500,
    b"[" * 500,
    b"PK\x01\x02",
    b"PK\x05\x06",
    b"\xff\xd9",
    b"\n",
)


def _bit(data: bytes, place: int, rng: np.random.Generator) -> bytes:
    return data[:place] + bytes([data[place] ^ (1 << int(rng.integers(8)))]) + data[place + 1 :]


def _byte(data: bytes, place: int, rng: np.random.Generator) -> bytes:
    return data[:place] + rng.bytes(1) + data[place + 1 :]


def _extreme(data: bytes, place: int, rng: np.random.Generator) -> bytes:
    number = (b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\0\0\0\x80")[rng.integers(5)]
    return data[:place] + number + data[place + 4 :]


def _cut(data: bytes, place: int, rng: np.random.Generator) -> bytes:
    return data[:place]


def _remove(data: bytes, place: int, rng: np.random.Generator) -> bytes:
    return data[:place] + data[place + int(rng.integers(1, 40)) :]


def _insert(data: bytes, place: int, rng: np.random.Generator) -> bytes:
    return data[:place] + rng.bytes(int(rng.integers(1, 20))) + data[place:]


def _insert_known(data: bytes, place: int, rng: np.random.Generator) -> bytes:
    return data[:place] + _BLOCKS[rng.integers(len(_BLOCKS))] + data[place:]


def _repeat(data: bytes, place: int, rng: np.random.Generator) -> bytes:
    return data[:place] + data[place : place + int(rng.integers(1, 60))] * int(rng.integers(1, 50)) + data[place:]


def _splice(data: bytes, place: int, rng: np.random.Generator) -> bytes:
    other = int(rng.integers(len(data)))
    return data[:place] + data[other : other + 16] + data[place + 16 :]


_BYTES: tuple[Callable[[bytes, int, np.random.Generator], bytes], ...] = (
    *(_bit, _bit, _byte, _extreme, _cut, _remove, _insert, _insert_known, _repeat, _splice),
)


def _few(rng: np.random.Generator) -> int:
    """1 to 4; a single change in half of the cases."""
    return (1, 1, 1, 2, 3, 4)[rng.integers(6)]


def mutate_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """One to four changes; headers are changed more often than their length alone would give."""
    for _ in range(_few(rng)):
        if not data:
            break
        end = len(data) if rng.integers(2) else min(len(data), 200)
        data = _BYTES[rng.integers(len(_BYTES))](data, int(rng.integers(end)), rng)
    return data


def any_value(rng: np.random.Generator) -> Any:
    """A value that a file may hold in the place of any other."""
    if not rng.integers(30):
        return json.loads("[" * _DEEP + "]" * _DEEP)
    return copy.deepcopy(_VALUES[rng.integers(len(_VALUES))])


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    keys = content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in list(keys):
        yield content, key
        yield from _places(content[key])


def mutate_json(content: Any, rng: np.random.Generator) -> Any:
    """A copy in which one to three values are others, are missing, or have another key."""
    content = copy.deepcopy(content)
    for _ in range(_few(rng)):
        places = list(_places(content))
        if not places:
            break
        container, key = places[rng.integers(len(places))]
        change = int(rng.integers(6))
        if change < 4:
            container[key] = any_value(rng)
        elif change == 4:
            del container[key]
        elif isinstance(container, dict):
            container[str(any_value(rng))[:20]] = container.pop(key)
        else:
            container.append(copy.deepcopy(container[key]))
    return content
