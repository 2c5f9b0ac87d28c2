"""Trains two recipes of each data set for the same processor time and compares their AP.

Used by benchmarks/small_recipes.py, benchmarks/suggested_recipes.py and benchmarks/detector_family.py.

First, training steps of both recipes run in turn, --rounds of each. Seconds are those of the processor: user and
system, all threads, so that other work on the machine has little effect. A run then has as many steps as fit into
--cpu_seconds at the median; its schedule and warm-up shrink with them. Compilation and evaluation are not in it:
the column "whole run" contains them. The column "the steps" is measured in the run itself. A run that was interrupted
resumes, and has neither column.

WORKDIR/steps.json holds the seconds of a step and WORKDIR/results.jsonl one line for each finished run. Neither is
measured a second time.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from ml_collections import ConfigDict

from lga_jax.checkpoints.read import has_checkpoint
from lga_jax.files import write_json
from lga_jax.training.run import open_run

Recipe = Callable[[argparse.Namespace, str, str], ConfigDict]  # (args, data, kind)


def add_arguments(parser: argparse.ArgumentParser, workdir: str) -> None:
    parser.add_argument("--workdir", type=Path, default=Path(workdir), help="Folder of runs and results.")
    parser.add_argument("--seeds", default="0,1", help="One run of each recipe per seed.")
    parser.add_argument("--cpu_seconds", type=float, default=400.0, help="Processor time of the steps of a run.")


def shrunk(config: ConfigDict) -> ConfigDict:
    """The recipe with tiny images, to check that a benchmark runs (--quick)."""
    config.batch_size, config.data.num_workers = 1, 1
    config.data.short_edges, config.data.eval_short_edge, config.data.long_edge = (48,), 48, 64
    config.data.buckets = ((64, 64),)
    return config


def rows(
    args: argparse.Namespace, tables: Mapping[str, str], kinds: Mapping[str, str], recipe: Recipe
) -> Iterator[dict]:
    """One row for each seed, data set and kind of recipe. `tables` and `kinds`: names to print."""
    args.workdir.mkdir(parents=True, exist_ok=True)
    stored = args.workdir / "results.jsonl"
    done = [json.loads(line) for line in stored.read_text().splitlines()] if stored.exists() else []
    seconds = step_seconds(args, tables, kinds, recipe)
    for seed in map(int, args.seeds.split(",")):
        for data in seconds:
            for kind in kinds:
                row = {"table": tables[data], "what": kinds[kind], "seed": seed}
                same = [other for other in done if row.items() <= other.items()]
                if not same:
                    same = [row | run(args, recipe, data, kind, seed, seconds[data][kind])]
                    with stored.open("a") as file:
                        file.write(json.dumps(same[0]) + "\n")
                yield same[0]


def shortened(config: ConfigDict, num_steps: int) -> ConfigDict:
    """The recipe with another number of steps; the share of the warm-up stays."""
    config.optim.warmup_steps = round(config.optim.warmup_steps * num_steps / config.num_steps)
    config.num_steps = num_steps
    config.eval_every = 0  # after the last step only
    config.checkpoint_every = 50
    return config


def step_seconds(
    args: argparse.Namespace, tables: Mapping[str, str], kinds: Mapping[str, str], recipe: Recipe
) -> dict[str, dict[str, float]]:
    """Processor seconds of a training step by data set and kind, from WORKDIR/steps.json if it exists."""
    stored = args.workdir / "steps.json"
    if not stored.exists():
        names = list(tables)[:1] if args.quick else list(tables)
        write_json(stored, {data: _steps_in_turn(args, kinds, recipe, data) for data in names})
    return json.loads(stored.read_text())


def _steps_in_turn(args: argparse.Namespace, kinds: Mapping[str, str], recipe: Recipe, data: str) -> dict[str, float]:
    with ExitStack() as stack:
        steps = {}
        for kind in kinds:
            folder = stack.enter_context(TemporaryDirectory())
            config = shortened(recipe(args, data, kind), 10 * args.rounds)
            steps[kind] = iter(stack.enter_context(open_run(config, folder)))
        for each in steps.values():
            _seconds(each)
        taken = {kind: [] for kind in steps}
        for _ in range(args.rounds):
            for kind, each in steps.items():
                taken[kind].append(_seconds(each))
    return {kind: statistics.median(seconds) for kind, seconds in taken.items()}


def _seconds(steps: Iterator[tuple[int, dict]]) -> float:
    start = time.process_time()
    _, metrics = next(steps)
    float(metrics["total"])  # waits for the step
    return time.process_time() - start


def run(args: argparse.Namespace, recipe: Recipe, data: str, kind: str, seed: int, step: float) -> dict:
    """Trains and evaluates one run; its columns."""
    num_steps = 2 if args.quick else round(args.cpu_seconds / step)
    config = shortened(recipe(args, data, kind), num_steps)
    config.seed = seed
    workdir = args.workdir / f"{data}_{kind}_{seed}"
    resumed, start, ends = has_checkpoint(workdir), time.process_time(), []
    with open_run(config, workdir) as steps:
        for _ in steps:
            ends.append(time.process_time())
    if steps.step < num_steps:
        raise SystemExit(f"{workdir}: stopped; repeat the command to resume")
    whole = {}
    if not resumed:
        # Evaluation follows the last step, so this step is taken for a mean one.
        taken = (ends[-2] - ends[0]) / max(1, len(ends) - 2) * num_steps if len(ends) > 1 else 0.0
        whole = {"the steps, CPU-s": round(taken), "whole run, CPU-s": round(time.process_time() - start)}
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    summary = next(line["eval"] for line in reversed(lines) if "eval" in line)
    scores = {name: round(summary[name], 4) for name in ("AP", "AP50", "AP75", "segm/AP") if name in summary}
    return {"steps": num_steps, "a step, CPU-s": step, **whole, **scores}
