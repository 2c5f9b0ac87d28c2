"""Reads the text of a compiled program: its computations, their instructions and the kernels that run."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_BYTES = {"pred": 1, "bf16": 2, "f16": 2} | {f"{k}{bits}": bits // 8 for k in "suf" for bits in (8, 16, 32, 64)}
_SHAPE = re.compile(rf"\b({'|'.join(sorted(_BYTES, key=len, reverse=True))})\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
# Instructions that move no data and start no kernel.
_FREE = {"parameter", "get-tuple-element", "tuple", "constant", "bitcast", "after-all", "partition-id", "replica-id"}
_FREE |= {f"{op}-{end}" for op in ("copy", "slice", "async", "all-reduce") for end in ("done", "update")}
# Passes of a loop whose number is not known while compiling: NMS takes about ten (benchmarks/RESULTS.md).
ASSUMED_TRIPS = 10


class Instruction(NamedTuple):
    name: str
    shape: str
    op: str
    operands: tuple[str, ...]
    rest: str  # attributes, metadata, and the value of a constant or the number of a parameter

    def attribute(self, name: str) -> str | None:
        """The computation that an attribute names."""
        found = re.search(rf"\b{name}=%?([\w.\-]+)", self.rest)
        return found.group(1) if found else None

    @property
    def path(self) -> str:
        """The modules and functions that the instruction comes from."""
        found = re.search(r'op_name="([^"]*)"', self.rest)
        return found.group(1) if found else ""

    @property
    def known_trips(self) -> int | None:
        """The number of passes of a loop; None if a GPU must ask the host before every pass."""
        found = re.search(r'known_trip_count":\{"n":"(\d+)"', self.rest)
        return int(found.group(1)) if found else None

    @property
    def cycles(self) -> int:
        """The TPU compiler's own estimate; it has none for gathers, scatters and sorts."""
        found = re.search(r'estimated_cycles":"(\d+)"', self.rest)
        return int(found.group(1)) if found else 0


class Program(NamedTuple):
    computations: dict[str, list[Instruction]]
    entry: str

    def kernels(self, name: str = "", times: int = 1) -> Iterator[tuple[int, Instruction, dict[str, str]]]:
        """(runs, instruction, shapes by name in its computation) of everything that runs as a kernel."""
        instructions = self.computations[name or self.entry]
        shapes = {instruction.name: instruction.shape for instruction in instructions}
        for instruction in instructions:
            if instruction.op == "while":
                yield from self.kernels(instruction.attribute("body"), times * self._trips(instruction))
            elif instruction.op in ("call", "conditional") and (called := instruction.attribute("to_apply")):
                yield from self.kernels(called, times)
            elif instruction.op not in _FREE:
                yield times, instruction, shapes

    def inside(self, instruction: Instruction) -> Iterator[Instruction]:
        """The instruction itself, or all instructions that it fuses."""
        called = instruction.attribute("calls") if instruction.op in ("fusion", "async-start") else None
        if called is None:
            yield instruction
            return
        for inner in self.computations[called]:
            yield from self.inside(inner)

    def _trips(self, loop: Instruction) -> int:
        if loop.known_trips is not None:
            return loop.known_trips
        *others, last = self.computations[loop.attribute("condition")]  # the TPU compiler notes no number
        bounds = [int(one.rest[1:].partition(")")[0]) for one in others if one.op == "constant" and "s32" in one.shape]
        return bounds[0] if len(bounds) == 1 and "direction=LT" in last.rest else ASSUMED_TRIPS

    def all(self, op: str) -> list[Instruction]:
        return [one for instructions in self.computations.values() for one in instructions if one.op == op]


def read(text: str) -> Program:
    """The program of `compiled.as_text()`."""
    computations, entry, current = {}, "", None
    for line in re.sub(r"/\*index=\d+\*/", "", text).splitlines():
        if found := _COMPUTATION.match(line):
            current = computations.setdefault(found.group(2), [])
            entry = found.group(2) if found.group(1) else entry
        elif current is not None and (found := _INSTRUCTION.match(line)):
            current.append(_instruction(*found.groups()))
    return Program(computations, entry)


def _instruction(name: str, text: str) -> Instruction:
    end = _closing(text, 0) if text.startswith("(") else text.index(" ")
    shape, text = text[:end], text[end:].lstrip()
    op, _, _ = text.partition("(")
    close = _closing(text, len(op))
    operands = text[len(op) : close]
    return Instruction(name, shape, op, tuple(re.findall(r"%([\w.\-]+)", operands)), operands + text[close:])


def _closing(text: str, start: int) -> int:
    """The place behind the bracket that closes the one at `start`."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place + 1
    return len(text)


def num_bytes(shape: str) -> int:
    """The size of an array, or of all arrays of a tuple; tiles and padding are not counted."""
    return sum(_BYTES[kind] * math.prod(sides) for kind, sides in arrays(shape))


def arrays(shape: str) -> list[tuple[str, list[int]]]:
    return [(kind, [int(side) for side in sides.split(",") if side]) for kind, sides in _SHAPE.findall(shape)]


def sides_of(shape: str) -> list[int]:
    """The sides of the first array."""
    return arrays(shape)[0][1] if arrays(shape) else []
