"""AP of the small recipe's backbone against ResNet-18 with partial weights, after the same processor time.

    python -m benchmarks.small_recipes --data data --weights resnet18.npz --workdir runs/small_recipes

Needs BCCD and NEU-DET as COCO JSON in the folders bccd and neu_det of --data, and the extra `efficientnet`. A run is
the recipe of the data set (configs/bccd.py, configs/neu_det.py) with the backbone, the pixel values and the weights of
configs/coco_json_small.py, or with its own ResNet-18 from --weights.

First, training steps of both run in turn, --rounds of each. Seconds are those of the processor: user and system, all
threads, so that other work on the machine has little effect. A run then has as many steps as fit into --cpu_seconds at
the median; its schedule and warm-up shrink with them. Compilation and evaluation are not in the budget: the column
"whole run" contains them. A run that was interrupted resumes, and has no such column.

WORKDIR/steps.json holds the seconds of a step and WORKDIR/results.jsonl one line for each finished run. Neither is
measured a second time. A workdir is for one --data, --weights and --cpu_seconds.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from ml_collections import ConfigDict

from benchmarks import timing
from lga_jax.checkpoints.read import has_checkpoint
from lga_jax.files import write_json
from lga_jax.recipe import load
from lga_jax.training.run import open_run, train

DATA = {"bccd": "BCCD", "neu_det": "NEU-DET"}
BACKBONES = {"efficientnet_lite0": "EfficientNet-Lite0", "resnet18": "ResNet-18, partial weights"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default="data", help="Folder of bccd and neu_det.")
    parser.add_argument("--weights", default="resnet18.npz", help="ImageNet weights of a ResNet-18, whole or partial.")
    parser.add_argument("--workdir", type=Path, default=Path("runs/small_recipes"), help="Folder of runs and results.")
    parser.add_argument("--seeds", default="0,1", help="One run of each recipe per seed.")
    parser.add_argument("--cpu_seconds", type=float, default=400.0, help="Processor time of the steps of a run.")


def rows(args: argparse.Namespace) -> Iterator[dict]:
    args.workdir.mkdir(parents=True, exist_ok=True)
    stored = args.workdir / "results.jsonl"
    done = [json.loads(line) for line in stored.read_text().splitlines()] if stored.exists() else []
    seconds = step_seconds(args)
    for seed in map(int, args.seeds.split(",")):
        for data in seconds:
            for backbone in BACKBONES:
                row = {"table": DATA[data], "what": BACKBONES[backbone], "seed": seed}
                same = [other for other in done if row.items() <= other.items()]
                if not same:
                    same = [row | run(args, data, backbone, seed, seconds[data][backbone])]
                    with stored.open("a") as file:
                        file.write(json.dumps(same[0]) + "\n")
                yield same[0]


def recipe(args: argparse.Namespace, data: str, backbone: str) -> ConfigDict:
    config = load(data)
    for part in (config.data.train, config.data.eval):
        part.root = str(Path(args.data, data))
    config.model.init_from = args.weights
    if backbone != "resnet18":
        small = load("coco_json_small").model
        for key in ("backbone", "pixel_mean", "pixel_std", "init_from"):
            setattr(config.model, key, small[key])
    if args.quick:
        config.batch_size, config.data.num_workers = 1, 1
        config.data.short_edges, config.data.eval_short_edge, config.data.long_edge = (48,), 48, 64
        config.data.buckets = ((64, 64),)
    return config


def shortened(config: ConfigDict, num_steps: int) -> ConfigDict:
    """The recipe with another number of steps; the share of the warm-up stays."""
    config.optim.warmup_steps = round(config.optim.warmup_steps * num_steps / config.num_steps)
    config.num_steps = num_steps
    config.eval_every = 0  # after the last step only
    config.checkpoint_every = 50
    return config


def step_seconds(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Processor seconds of a training step by data set and backbone, from WORKDIR/steps.json if it exists."""
    stored = args.workdir / "steps.json"
    if not stored.exists():
        names = ("bccd",) if args.quick else tuple(DATA)
        write_json(stored, {data: _steps_in_turn(args, data) for data in names})
    return json.loads(stored.read_text())


def _steps_in_turn(args: argparse.Namespace, data: str) -> dict[str, float]:
    with ExitStack() as stack:
        steps = {}
        for backbone in BACKBONES:
            folder = stack.enter_context(TemporaryDirectory())
            config = shortened(recipe(args, data, backbone), 10 * args.rounds)
            steps[backbone] = iter(stack.enter_context(open_run(config, folder)))
        for each in steps.values():
            _seconds(each)
        taken = {backbone: [] for backbone in steps}
        for _ in range(args.rounds):
            for backbone, each in steps.items():
                taken[backbone].append(_seconds(each))
    return {backbone: statistics.median(seconds) for backbone, seconds in taken.items()}


def _seconds(steps: Iterator[tuple[int, dict]]) -> float:
    start = time.process_time()
    _, metrics = next(steps)
    float(metrics["total"])  # waits for the step
    return time.process_time() - start


def run(args: argparse.Namespace, data: str, backbone: str, seed: int, step: float) -> dict:
    """Trains and evaluates one run; its columns."""
    num_steps = 2 if args.quick else round(args.cpu_seconds / step)
    config = shortened(recipe(args, data, backbone), num_steps)
    config.seed = seed
    workdir = args.workdir / f"{data}_{backbone}_{seed}"
    resumed, start = has_checkpoint(workdir), time.process_time()
    if train(config, workdir) is not None:
        raise SystemExit(f"{workdir}: stopped; repeat the command to resume")
    whole = {} if resumed else {"whole run, CPU-s": round(time.process_time() - start)}
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    summary = next(line["eval"] for line in reversed(lines) if "eval" in line)
    scores = {name: round(summary[name], 4) for name in ("AP", "AP50", "AP75")}
    return {"steps": num_steps, "a step, CPU-s": step, **whole, **scores}


if __name__ == "__main__":
    timing.main(rows, __doc__, add_arguments)
