"""What the kernels of a compiled program cost: bytes, operations, and the shortest time of each.

A kernel reads its arguments and writes its result once; a gather or slice reads what it returns, and a scatter reads
and writes the rows that it changes. Its shortest time is the larger one of bytes / bandwidth and FLOPs / peak, and at
least that of a launch. The sum is a floor for the program as the compiler has fused it: passes of a sort, traffic of
the caches and waiting for the host are not in it.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.accelerators.hlo import Instruction, Program, num_bytes, sides_of
from benchmarks.accelerators.targets import Target

_SLICES = ("gather", "dynamic-slice", "slice")
_VIEWS = ("bitcast", "convert", "copy", "reshape", "transpose")
# Part of the model -> what the paths of its operations contain; the first one that fits.
PARTS = {
    "RoIAlign": "multilevel_roi_align",
    "backbone": "/backbone/",
    "FPN": "/fpn/",
    "proposals": "rpn.propose",
    "RPN head": "rpn.predict",
    "close-ups": r"attention\.look_closer|/add_close_ups/",
    "guide": r"attention\.(guide|classify)",
    "attention": "/attention/",
    "box head": "/box_head/",
    "matching and sampling": r"\(Detector\)/(rpn|stages_\d)/",
    "normalise": "normalise",
    "C2 averages": r"\(Detector\)/stages_\d|avg_pool|reduce_window",
}


class Cost(NamedTuple):
    part: str
    runs: int
    bytes: int  # of one run
    flops: int  # of one run
    seconds: float  # of all runs
    kernel: Instruction


def costs(program: Program, target: Target) -> Iterator[Cost]:
    """The cost of every kernel."""
    for runs, kernel, shapes in program.kernels():
        moved, flops = _bytes(program, kernel, shapes), _flops(program, kernel, shapes)
        seconds = max(moved / target.bandwidth, flops / target.flops, target.launch)
        yield Cost(part_of(kernel.path), runs, moved, flops, runs * seconds, kernel)


def part_of(path: str) -> str:
    """The part of the model, and whether it is its backward pass."""
    name = next((part for part, pattern in PARTS.items() if re.search(pattern, path)), "losses, optimizer, rest")
    return f"{name}, backward" if "transpose(jvp" in path else name


def _bytes(program: Program, kernel: Instruction, shapes: dict[str, str]) -> int:
    fused = program.computations.get(kernel.attribute("calls") or "", [])
    if kernel.op != "fusion" or not fused:
        if kernel.op in _SLICES:
            return 2 * num_bytes(kernel.shape)
        return num_bytes(kernel.shape) + sum(num_bytes(shapes.get(name, "")) for name in kernel.operands)
    parameters = {one.rest.strip("()").partition(")")[0]: one.name for one in fused if one.op == "parameter"}
    read = sum(
        _read(fused, parameters.get(str(place), ""), num_bytes(shapes.get(name, "")))
        for place, name in enumerate(kernel.operands)
    )
    return read + _written(fused, kernel)


def _read(fused: list[Instruction], name: str, whole: int) -> int:
    """Bytes that a fusion reads from its parameter `name` of `whole` bytes."""
    total = 0
    for user in fused:
        if name not in user.operands:
            continue
        if user.op in _SLICES and user.operands[0] == name:
            total += num_bytes(user.shape)
        elif user.op in ("dynamic-update-slice", "scatter") and user.operands[0] == name:
            continue  # the rows that change are counted where they are written
        elif user.op in _VIEWS:
            total += _read(fused, user.name, whole)
        else:
            return whole
    return total


def _written(fused: list[Instruction], kernel: Instruction) -> int:
    shapes = {one.name: one.shape for one in fused}
    changed = [one for one in fused if one.op == "scatter" or (one.op == "dynamic-update-slice" and one is fused[-1])]
    if not changed:
        return num_bytes(kernel.shape)
    return sum(2 * num_bytes(shapes[one.operands[-1 if one.op == "scatter" else 1]]) for one in changed)


def _flops(program: Program, kernel: Instruction, shapes: dict[str, str]) -> int:
    if kernel.op == "custom-call":
        return _library_flops(kernel, shapes)
    if kernel.op == "fusion":
        fused = program.computations[kernel.attribute("calls")]
        inner = {one.name: one.shape for one in fused}
        return sum(_flops(program, one, inner) for one in fused if one.op in ("dot", "fusion", "convolution"))
    if kernel.op == "dot":
        left = sides_of(shapes.get(kernel.operands[0], ""))
        contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", kernel.rest).group(1)
        return 2 * math.prod(sides_of(kernel.shape)) * math.prod(left[int(axis)] for axis in contracted.split(","))
    return _convolution_flops(kernel, shapes) if kernel.op == "convolution" else 0


def _library_flops(kernel: Instruction, shapes: dict[str, str]) -> int:
    name = re.search(r'custom_call_target="([^"]+)"', kernel.rest).group(1)
    if "conv" in name:
        return _convolution_flops(kernel, shapes)
    if "cublas" in name:
        left = sides_of(shapes.get(kernel.operands[0], ""))
        contracted = re.search(r'lhs_contracting_dimensions":\["(\d+)"', kernel.rest).group(1)
        return 2 * math.prod(sides_of(kernel.shape)) * left[int(contracted)]
    return 0


def _convolution_flops(kernel: Instruction, shapes: dict[str, str]) -> int:
    """Two operations for each output, input channel and cell of the window; of the gradients likewise."""
    window = re.search(r"window=\{size=([\dx]+)", kernel.rest)
    size = math.prod(int(side) for side in window.group(1).split("x")) if window else 1
    first, _, result = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", kernel.rest).groups()
    sides = [sides_of(shapes.get(name, "")) for name in kernel.operands[:2]]
    output = sides_of(kernel.shape)
    if "BackwardFilter" in kernel.rest:  # first: input, second: gradient of the output, result: kernel
        return 2 * math.prod(sides[1]) * sides[0][first.index("f")] * size
    if "BackwardInput" in kernel.rest:  # first: gradient of the output, result: gradient of the input
        return 2 * math.prod(sides[0]) * output[result.index("f") if "f" in result else -1] * size
    return 2 * math.prod(output) * sides[0][first.index("f")] * size
