"""Shared by all benchmarks: alternating measurements, operation counts, the measured peak of the machine, tables.

    python -m benchmarks.timing

A benchmark is a module of this folder with

    rows(args) -> Iterator[dict]       yields each measurement when it is done
    add_arguments(parser)              optional: its own flags, each with a default
    plots(rows, folder) -> list[str]   optional: draws all of its rows; returns the names of the PNG files

and ends with `timing.main(rows, __doc__, add_arguments)`. Run alone it prints tables, with `--json` one JSON object
per line. A row is a dict of strings and numbers. `table` (its heading) and `what` (the first column) are required;
every other key is a column with its unit in the name ("median, ms"), `goal` is text, `note` is a sentence under the
table. `args` has `rounds`, `quick` (tiny sizes, to check that it runs), `machine` (`Machine`) and the module's own
flags. `benchmarks.bench` runs these modules one after the other and writes their rows as one report.

How to read the columns:

- Variants run in turn (A B A B ...), so changes of the machine's speed affect all of them. A ratio is the median of the
  ratios within the rounds, not the ratio of the medians.
- `GFLOP` counts two operations for each multiplication in the convolutions and matrix products of the jaxpr, before
  XLA's optimisations; operations without such products are counted by hand. A convolution by Winograd's algorithm
  counts as the direct convolution, so its share of the peak may exceed that of matrix products.
- `least MB` counts every argument read once and every result written once; no program can move less.
- `share of peak` is the minimum time over the median. The minimum time is `GFLOP` at the peak rate or `least MB` at the
  peak bandwidth, the longer of the two (`bound by`). Both peaks are measured on the same machine: the fastest matrix
  product of the installed libraries, and an update `a += s b` of arrays larger than any cache.
- `temporary MiB` is memory that XLA allocates beside arguments and results, without memory of the libraries that XLA
  calls on a CPU. `XLA MB` is XLA's estimate of the bytes accessed. It is empty if a loop or a custom call makes it
  unusable, because XLA counts the body of a loop once.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval
from jax.stages import Compiled

Rows = Callable[[argparse.Namespace], Iterator[dict]]
LEAST_SECONDS = 0.02  # duration of one timing; shorter calls are repeated
MOST_SECONDS = 180  # after which no further round begins; a slow machine has fewer
ROOT = Path(__file__).parents[1]


class Machine(NamedTuple):
    """The machine of the measurements, with the best rates of a plain product and sum."""

    line: str
    gflops: dict[str, float]  # GFLOP/s by dtype
    bandwidth: float  # GB/s

    def share(self, seconds: float, flops: float, num_bytes: float, dtype: str = "float32") -> dict[str, Any]:
        """Share of the peak: minimum time for this work / measured time."""
        least = {"FLOP/s": flops / self.gflops[dtype] / 1e9, "bandwidth": num_bytes / self.bandwidth / 1e9}
        bound = max(least, key=least.get)
        return {"share of peak": least[bound] / seconds, "bound by": bound}


def in_turn(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call by name, one number per round, after one call for warm-up.

    At least one round, and no further one after MOST_SECONDS.
    """
    begin, repeats = time.perf_counter(), {}
    for name, call in calls.items():
        _seconds(call, 1)
        repeats[name] = max(1, round(LEAST_SECONDS / _seconds(call, 1)))
    taken = {name: [] for name in calls}
    for number in range(rounds):
        if number and time.perf_counter() - begin > MOST_SECONDS:
            break
        for name, call in calls.items():
            taken[name].append(_seconds(call, repeats[name]))
    return taken


def _seconds(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        result = call()
    jax.block_until_ready(result)
    return (time.perf_counter() - start) / repeats


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, minimum and maximum in milliseconds, as columns."""
    return {
        "median, ms": 1e3 * statistics.median(seconds),
        "min, ms": 1e3 * min(seconds),
        "max, ms": 1e3 * max(seconds),
    }


def ratio(seconds: list[float], base: list[float]) -> float:
    """Median over the rounds of seconds / base."""
    return statistics.median(s / b for s, b in zip(seconds, base, strict=True))


def matmul_flops(function: Callable, *args: Any) -> float:
    """Operations of the convolutions and matrix products of function(*args), two per multiplication.

    Padding counts; zeros between the cells in the gradient of a strided convolution do not. The body of a `scan` counts
    once per iteration, the body of a `while` once. For a conditional, the branch with the most operations counts, so a
    convolution in Winograd's form counts as the direct convolution.
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    used, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return _flops(used)


def _flops(jaxpr: Any) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        params = equation.params
        if equation.primitive.name == "dot_general":
            contracted = (equation.invars[0].aval.shape[axis] for axis in params["dimension_numbers"][0][0])
            total += 2 * equation.outvars[0].aval.size * float(np.prod([*contracted]))
        elif equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval
            per_output = kernel.size / kernel.shape[params["dimension_numbers"].rhs_spec[0]]
            total += 2 * equation.outvars[0].aval.size * per_output / float(np.prod(params["lhs_dilation"]))
        else:
            inner = [getattr(leaf, "jaxpr", leaf) for leaf in jax.tree.leaves(list(params.values()))]
            counts = [_flops(leaf) for leaf in inner if hasattr(leaf, "eqns")]
            chosen = max(counts) if equation.primitive.name == "cond" else sum(counts)
            total += params.get("length", 1) * chosen
    return total


def least_bytes(function: Callable, *args: Any) -> float:
    """Bytes of all arguments and results."""
    leaves = jax.tree.leaves((args, jax.eval_shape(function, *args)))
    return float(sum(leaf.size * leaf.dtype.itemsize for leaf in leaves))


def memory(compiled: Compiled) -> dict[str, float | str]:
    """Temporary buffers, and XLA's estimate of the traffic, as columns."""
    text = compiled.as_text()
    usable = " while(" not in text and " custom-call(" not in text
    accessed = compiled.cost_analysis().get("bytes accessed", 0.0) / 1e6 if usable else ""
    return {"temporary MiB": compiled.memory_analysis().temp_size_in_bytes / 2**20, "XLA MB": accessed}


def random_floats(seed: int, *shape: int, dtype: Any = jnp.float32) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32), dtype)


# Machine.


def describe_machine() -> str:
    """Processor, versions, device and load of the machine in one line."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].split(":")[1].strip() if names else cpu
    device = jax.devices()[0]
    versions = ", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib", "flax"))
    flags = f", XLA_FLAGS={os.environ['XLA_FLAGS']}" if os.environ.get("XLA_FLAGS") else ""
    return (
        f"{cpu}, {os.cpu_count()} cores; {jax.device_count()} x {device.device_kind} ({device.platform}); "
        f"Python {platform.python_version()}, {versions}{flags}; load at the start {os.getloadavg()[0]:.1f}"
    )


def rows(args: argparse.Namespace) -> Iterator[dict]:
    """The machine's peak: a large product by each available library, and an update `a += s b`."""
    on_cpu = jax.devices()[0].platform == "cpu"
    side = 256 if args.quick else 3072 if on_cpu else 16384
    table, line = "The machine", describe_machine()
    for number, (dtype, library, _) in enumerate(_products(256, on_cpu)):
        of = _side_for(side, lambda size, number=number: [*_products(size, on_cpu)][number][2])
        what, product = f"{of}^2 matrix product, {dtype}, {library}", [*_products(of, on_cpu)][number][2]
        rate = 2 * of**3 / min(in_turn({what: product}, 2 * args.rounds)[what]) / 1e9
        yield {"table": table, "what": what, "dtype": dtype, "best, GFLOP/s": rate, "note": line}

    size = 2**16 if args.quick else 2**26  # floats: larger than any cache
    update = jax.jit(lambda a, b: a + 3.0 * b, donate_argnums=0)
    arrays = [jnp.ones(size), jnp.ones(size)]

    def run() -> jax.Array:
        arrays[0] = update(*arrays)
        return arrays[0]

    seconds = min(in_turn({"update": run}, 4 * args.rounds)["update"])
    yield {"table": table, "what": f"a += s b, {4 * size / 1e6:.0f} MB each", "best, GB/s": 12 * size / seconds / 1e9}


def _side_for(most: int, product: Callable[[int], Callable[[], Any]]) -> int:
    """The largest side, in powers of two below `most`, whose product takes less than a second or so.

    Without instructions for bfloat16 some libraries take minutes for a large product.
    """
    side = 256
    while side < most:
        call = product(side)
        _seconds(call, 1)
        if 8 * _seconds(call, 1) > 1:
            break
        side = min(2 * side, most)
    return side


def _products(side: int, on_cpu: bool) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    product = jax.jit(jnp.matmul)
    for dtype in ("float32", "bfloat16"):
        a = random_floats(0, side, side, dtype=dtype)
        yield dtype, "XLA", lambda a=a: product(a, a)
    if not on_cpu:
        return
    # The peak of the processor may be higher than XLA's rate: other libraries may be faster.
    array = np.random.default_rng(0).standard_normal((side, side), np.float32)
    yield "float32", "numpy", lambda: array @ array
    if find_spec("torch"):
        import torch

        for dtype in ("float32", "bfloat16"):
            tensor = torch.tensor(array).to(getattr(torch, dtype))
            yield dtype, "PyTorch", lambda tensor=tensor: tensor @ tensor


def read_machine(measured: Iterable[dict]) -> Machine:
    """The machine from the rows of this module."""
    measured = list(measured)
    products = [row for row in measured if "best, GFLOP/s" in row]
    gflops = {
        dtype: max(row["best, GFLOP/s"] for row in products if row["dtype"] == dtype)
        for dtype in {row["dtype"] for row in products}
    }
    return Machine(products[0]["note"], gflops, next(row["best, GB/s"] for row in measured if "best, GB/s" in row))


def measure_machine(quick: bool) -> list[dict]:
    """The rows of this module from a separate process, so that its libraries and threads do not remain."""
    return list(results(start("timing", "--json", *(["--quick"] if quick else []))))


# Commands and reports.


def start(module: str, *flags: str, env: Mapping[str, str] | None = None) -> subprocess.Popen:
    """Starts `python -m benchmarks.MODULE FLAGS` with additional environment variables and piped output."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | (env or {}))


def results(process: subprocess.Popen) -> Iterator[Any]:
    """The JSON lines that a process prints. Raises CalledProcessError if it fails."""
    with process:
        yield from (json.loads(line) for line in process.stdout if line.startswith(("{", "[")))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)


def main(rows: Rows, description: str, add_arguments: Callable[[argparse.ArgumentParser], None] | None = None) -> None:
    """The command line of a benchmark."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="Timings of each callable.")
    parser.add_argument("--quick", action="store_true", help="Tiny sizes, two rounds: does it run?")
    parser.add_argument("--json", action="store_true", help="Print rows as JSON lines.")
    parser.add_argument("--machine", help="JSON file with the rows of benchmarks.timing; without it they are measured.")
    if add_arguments:
        add_arguments(parser)
    args, overrides = parser.parse_known_args()
    if [word for word in overrides if not word.startswith("--config.")] or (overrides and not hasattr(args, "config")):
        parser.error(f"unknown flags: {' '.join(overrides)}")
    args.overrides = overrides
    if args.quick:
        args.rounds = 2
        jax.config.update("jax_disable_most_optimizations", True)  # most time is spent on compilation
    if rows.__module__ != __name__:  # measuring the peak needs no machine
        measured = json.loads(Path(args.machine).read_text()) if args.machine else measure_machine(args.quick)
        args.machine = read_machine(measured)
    found = []
    for row in rows(args):
        if args.json:
            print(json.dumps(row), flush=True)
        else:
            found.append(row)
            print(".", end="", file=sys.stderr, flush=True)
    if not args.json:
        print(file=sys.stderr)
        print(markdown(found if rows.__module__ == __name__ else [{"note": args.machine.line}, *found]))


def markdown(rows: Iterable[dict], level: int = 3) -> str:
    """All rows, one table per `table`, in order of first appearance."""
    tables: dict[str, list[dict]] = {}
    for row in rows:
        tables.setdefault(row.get("table", ""), []).append(row)
    return "\n\n".join(filter(None, (_table(name, members, level) for name, members in tables.items())))


def _table(name: str, rows: list[dict], level: int) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row if key not in ("table", "note")))
    columns = [column for column in columns if any(row.get(column, "") != "" for row in rows)]
    lines = [f"{'#' * level} {name}", ""] if name else []
    if columns:
        lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(_cell(column, row.get(column, "")) for column in columns) + " |" for row in rows]
    notes = dict.fromkeys(row["note"] for row in rows if row.get("note"))
    return "\n".join(lines + ([""] if columns and notes else []) + list(notes))


def _cell(column: str, value: Any) -> str:
    if isinstance(value, float) and column.startswith("share"):
        return f"{100 * value:.0f} %" if abs(value) >= 0.095 else f"{100 * value:.1g} %"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


if __name__ == "__main__":
    # Imported by name, so that `rows` is the same function as in other modules.
    from benchmarks import timing

    timing.main(timing.rows, __doc__)
