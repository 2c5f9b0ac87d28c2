"""Tables about a compiled program."""

import re
from collections.abc import Iterator

from jax.stages import Compiled, Lowered

from benchmarks.accelerators import hlo
from benchmarks.accelerators.cost import Cost, costs
from benchmarks.accelerators.targets import Target

_NUM_BUFFERS = 6


def tables(name: str, lowered: Lowered, compiled: Compiled, target: Target) -> Iterator[dict]:
    """Rows for benchmarks.timing.markdown: the parts of the model, and what the program contains."""
    program = hlo.read(compiled.as_text())
    measured = list(costs(program, target))
    parts: dict[str, list[Cost]] = {}
    for one in measured:
        parts.setdefault(one.part, []).append(one)
    for part, kernels in sorted(parts.items(), key=lambda item: -sum(one.seconds for one in item[1])):
        yield {"table": name, "what": part, **totals(kernels)}
    yield {"table": name, "what": "all", **totals(measured)}
    for what, found in contents(program, lowered.as_text(), compiled).items():
        yield {"table": f"{name}: contents", "what": what, "found": found}


def totals(kernels: list[Cost]) -> dict[str, float | int]:
    return {
        "launches": sum(one.runs for one in kernels),
        "GB": sum(one.runs * one.bytes for one in kernels) / 1e9,
        "GFLOP": sum(one.runs * one.flops for one in kernels) / 1e9,
        "floor, ms": 1e3 * sum(one.seconds for one in kernels),
        "M cycles": sum(one.runs * one.kernel.cycles for one in kernels) / 1e6 or "",
        "M cycles, each loop once": sum(one.kernel.cycles for one in kernels) / 1e6 or "",
    }


def contents(program: hlo.Program, lowered: str, compiled: Compiled) -> dict[str, str]:
    """What the program contains besides products."""
    sorts = sorted_sides(program)
    memory = compiled.memory_analysis()
    return {
        "sorts (length of a row)": f"{len(sorts)} ({', '.join(f'{side:,}' for side in sorted(sorts, reverse=True))})",
        "scatters": str(len(program.all("scatter"))),
        "loops": str(len(program.all("while"))),
        "loops without a known number of passes": str(len(open_loops(program))),
        "copies": str(sum(runs for runs, kernel, _ in program.kernels() if kernel.op in ("copy", "copy-start"))),
        "all-reduces, lowered": str(num_all_reduces(lowered)),
        "all-reduces, compiled": str(len(program.all("all-reduce")) + len(program.all("all-reduce-start"))),
        "convolutions in float32": str(len(wide_convolutions(lowered))),
        "temporary memory": f"{memory.temp_size_in_bytes / 1e9:.2f} GB",
        "arguments": f"{memory.argument_size_in_bytes / 1e9:.2f} GB",
        "largest results": ", ".join(largest(program)),
    }


def sorted_sides(program: hlo.Program) -> list[int]:
    """The length of the sorted axis of every sort."""
    found = []
    for one in program.all("sort"):
        axis = re.search(r"dimensions=\{(\d+)\}", one.rest)
        found.append(hlo.sides_of(one.shape)[int(axis.group(1))])
    return found


def open_loops(program: hlo.Program) -> list[hlo.Instruction]:
    """Loops whose number of passes the compiler does not know: a GPU copies their condition to the host every time."""
    return [loop for loop in program.all("while") if loop.known_trips is None]


def num_all_reduces(lowered: str) -> int:
    """All-reduces before the compiler joins them."""
    return len(re.findall(r"stablehlo\.all_reduce", lowered))


def wide_convolutions(lowered: str) -> list[str]:
    """The types of the convolutions that read or write float32."""
    lines = (line for line in lowered.splitlines() if "stablehlo.convolution" in line)
    return [types for line in lines if "f32" in (types := line.rsplit(" : ", 1)[1])]


def largest(program: hlo.Program) -> list[str]:
    """The largest arrays that kernels write."""
    sizes = {}
    for _, kernel, _ in program.kernels():
        for kind, sides in hlo.arrays(kernel.shape):
            text = f"{kind}[{','.join(map(str, sides))}]"
            sizes[text] = hlo.num_bytes(text)
    chosen = sorted(sizes, key=sizes.get, reverse=True)[:_NUM_BUFFERS]
    return [f"{text} {sizes[text] / 1e6:,.0f} MB" for text in chosen]
