"""Does loss-guided attention do what the paper says, and what keeps its masks from collapsing onto one place?

    python -m benchmarks.study --workdir runs/study --seeds 0,1,2

Trains every row of benchmarks/study_rows.py from every seed on every data set: each run a process of its own on one
core, as many at a time as --processes. A run that ends is a line of WORKDIR/runs.jsonl; a run that is there with the same
settings is not repeated, so the command can be stopped at any moment and given again. A run that fails is named in one
line (its output is in WORKDIR/logs) and the others go on. The challenge set is drawn by the program; the others need
--data_root, a folder with bccd/ and neu_det/ as COCO JSON, and --weights, a ResNet-18's.

Then benchmarks/study_report.py makes tables and plots of runs.jsonl, and benchmarks/study_pictures.py pictures of what
the masks do.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from absl import app, flags
from tqdm import tqdm

from benchmarks.study_data import CachedSource
from benchmarks.study_rows import DATA, ROWS, digest, resolve
from lga_jax.data.records import open_source

WORKDIR = flags.DEFINE_string("workdir", "runs/study", "Where runs, their parameters and logs go.")
ROW_NAMES = flags.DEFINE_list("rows", list(ROWS), "Forms of attention.")
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "One run of every row per seed.")
DATA_NAMES = flags.DEFINE_list("data", ["challenge"], f"Of {', '.join(DATA)}.")
PROCESSES = flags.DEFINE_integer("processes", len(os.sched_getaffinity(0)), "Runs at a time, one core each.")
DATA_ROOT = flags.DEFINE_string("data_root", "data", "Folder with bccd/ and neu_det/.")
WEIGHTS = flags.DEFINE_string("weights", "", "ImageNet weights of a ResNet-18 for bccd and neu_det, whole or partial.")
SET = flags.DEFINE_multi_string("set", [], "KEY=JSON: a value of every run's configuration, for trials.")

# XLA's CPU backend takes convolutions from a library that is slow in their gradients.
XLA_FLAGS = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"


class Job(NamedTuple):
    data: str
    row: str
    seed: int
    digest: str
    num_steps: int

    @property
    def name(self) -> str:
        return f"{self.data}_{self.row}_{self.seed}"


class Running(NamedTuple):
    job: Job
    process: subprocess.Popen
    core: int
    log: Path


def environment() -> dict[str, str]:
    """Of every run."""
    given = os.environ.get("XLA_FLAGS", "")
    return os.environ | {"XLA_FLAGS": f"{given} {XLA_FLAGS}".strip(), "JAX_PLATFORMS": "cpu", "TQDM_DISABLE": "1"}


def read_runs(workdir: Path) -> list[dict[str, Any]]:
    """The finished runs, the latest of those that were repeated. A line that was cut off is left out."""
    path, runs = workdir / "runs.jsonl", {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            run = json.loads(line)
        except json.JSONDecodeError:
            continue
        runs[run["data"], run["row"], run["seed"], run["digest"]] = run
    return list(runs.values())


def plan(
    data_names: Iterable[str],
    rows: Iterable[str],
    seeds: Iterable[int],
    root: str,
    weights: str,
    overrides: dict[str, Any],
) -> list[Job]:
    """The grid. All rows of a seed come before the next seed, so that an early stop leaves whole comparisons."""
    jobs = []
    for data in data_names:
        for seed in seeds:
            for name in rows:
                config = resolve(data, ROWS[name], root, weights, overrides)
                jobs.append(Job(data, name, seed, digest(config, ROWS[name]), config.num_steps))
    return jobs


def start(job: Job, core: int, workdir: Path, overrides: dict[str, Any]) -> Running:
    (workdir / "logs").mkdir(parents=True, exist_ok=True)
    (workdir / "progress" / job.name).unlink(missing_ok=True)
    description = {
        "data": job.data,
        "row": job.row,
        "seed": job.seed,
        "name": job.name,
        "workdir": str(workdir),
        "root": DATA_ROOT.value,
        "weights": WEIGHTS.value if job.data != "challenge" else "",
        "overrides": overrides,
    }
    log = workdir / "logs" / f"{job.name}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.study_run", json.dumps(description)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(),
            # Before jax is imported: it makes as many threads as it may use cores.
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
    return Running(job, process, core, log)


def steps_done(running: Running, workdir: Path) -> int:
    try:
        return int((workdir / "progress" / running.job.name).read_text())
    except (FileNotFoundError, ValueError):
        return 0


def work(jobs: list[Job], cores: list[int], workdir: Path, overrides: dict[str, Any]) -> list[str]:
    """Runs all jobs and returns a line for each that failed."""
    waiting, running, free, failures = list(jobs), [], list(cores), []
    total = sum(job.num_steps for job in jobs)
    done = 0
    with tqdm(total=total, unit="step", dynamic_ncols=True, mininterval=0.2 if sys.stderr.isatty() else 60) as bar:
        try:
            while waiting or running:
                while waiting and free:
                    running.append(start(waiting.pop(0), free.pop(0), workdir, overrides))
                time.sleep(0.5)
                for one in [one for one in running if one.process.poll() is not None]:
                    running.remove(one)
                    free.append(one.core)
                    done += one.job.num_steps
                    last = (one.log.read_text().strip().splitlines() or ["no output"])[-1]
                    line = f"{one.job.name}: {last}"
                    if one.process.returncode:
                        line = f"{one.job.name}: failed ({one.process.returncode}): {last}; see {one.log}"
                        failures.append(line)
                    bar.write(line)
                bar.n = done + sum(steps_done(one, workdir) for one in running)
                bar.set_postfix_str(f"{len(waiting) + len(running)} runs to go, {len(failures)} failed", refresh=False)
                bar.refresh() if sys.stderr.isatty() else bar.update(0)
        finally:
            for one in running:
                one.process.terminate()
            for one in running:
                one.process.wait()
    return failures


def draw_images(data_names: Iterable[str], root: str, overrides: dict[str, Any], workdir: Path) -> None:
    """Before any run starts: two would draw them twice."""
    for data in data_names:
        config = resolve(data, ROWS["none"], root, "", overrides)
        for part in ("train", "eval"):
            CachedSource(open_source(**config.data[part]), workdir / "images")


def main(_: list[str]) -> None:
    for flag, given, known in (("rows", ROW_NAMES.value, ROWS), ("data", DATA_NAMES.value, DATA)):
        if unknown := [name for name in given if name not in known]:
            sys.exit(f"--{flag}: expected some of {', '.join(known)}; found {', '.join(unknown)}")
    if not WEIGHTS.value and set(DATA_NAMES.value) - {"challenge"}:
        sys.exit("--weights: expected ImageNet weights of a ResNet-18 for bccd and neu_det, found none; name a file")
    workdir = Path(WORKDIR.value)
    overrides = {key: json.loads(value) for key, value in (re.split("=", given, maxsplit=1) for given in SET.value)}
    seeds = [int(seed) for seed in SEEDS.value]
    jobs = plan(DATA_NAMES.value, ROW_NAMES.value, seeds, DATA_ROOT.value, WEIGHTS.value, overrides)
    there = {(run["data"], run["row"], run["seed"], run["digest"]) for run in read_runs(workdir)}
    missing = [job for job in jobs if job[:4] not in there]
    print(f"{len(jobs)} runs, {len(jobs) - len(missing)} of them done", flush=True)
    if not missing:
        return
    draw_images(dict.fromkeys(job.data for job in missing), DATA_ROOT.value, overrides, workdir)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the runs as well, by `finally`
    cores = sorted(os.sched_getaffinity(0))
    cores = [cores[i % len(cores)] for i in range(PROCESSES.value)]
    failures = work(missing, cores, workdir, overrides)
    print("\n".join([f"{len(missing) - len(failures)} runs done, {len(failures)} failed", *failures]))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    app.run(main)
