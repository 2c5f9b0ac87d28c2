"""Study of loss-guided attention: does it work as in the paper, and how can its masks stay separate?

    python -m studies.attention.study --workdir runs/study --seeds 0,1,2

Trains every row of studies/attention/rows.py with every seed on every data set. Each run is a separate process on one
core; --processes run at a time. A finished run is a line of WORKDIR/runs.jsonl and is not repeated with the same
settings, so the command can be stopped and repeated at any time. A failed run is reported in one line (its output is in
WORKDIR/logs) and the others continue. The challenge set is generated; the other data sets need --data_root, a folder
with bccd/, neu_det/ and cards/ as COCO JSON. bccd and neu_det also need --weights of a ResNet-18.

Afterwards report.py creates tables and plots from runs.jsonl, and pictures.py creates pictures of the masks.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from lga_jax.terminal import safe_output
from studies.attention.rows import DATA, GENERATED, ROWS, WEIGHTS, digest, resolve
from studies.attention.workdir import open_sources, read_runs

# Without this option XLA's CPU backend uses a library with slow gradients of convolutions.
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


class Places(NamedTuple):
    """Paths of a study."""

    workdir: Path
    root: str
    weights: str


class Running(NamedTuple):
    job: Job
    process: subprocess.Popen
    core: int
    log: Path


def environment(workdir: Path) -> dict[str, str]:
    """Environment variables of every run. Runs of a row differ only in their seeds and share compiled programs."""
    given = os.environ.get("XLA_FLAGS", "")
    return os.environ | {
        "XLA_FLAGS": f"{given} {XLA_FLAGS}".strip(),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(workdir.absolute() / "compiled"),
    }


def plan(
    data_names: Iterable[str],
    rows: Iterable[str],
    seeds: Iterable[int],
    places: Places,
    overrides: dict[str, Any],
) -> list[Job]:
    """All jobs. All rows of a seed come before the next seed, so an early stop leaves complete comparisons."""
    jobs = []
    for data in data_names:
        for seed in seeds:
            for name in rows:
                config = resolve(data, ROWS[name], places.root, places.weights, overrides)
                jobs.append(Job(data, name, seed, digest(config, ROWS[name]), config.num_steps))
    return jobs


def command(job: Job, places: Places, overrides: dict[str, Any]) -> list[str]:
    description = {
        "data": job.data,
        "row": job.row,
        "seed": job.seed,
        "name": job.name,
        "workdir": str(places.workdir),
        "root": places.root,
        "weights": places.weights if job.data not in GENERATED else "",
        "overrides": overrides,
    }
    return [sys.executable, "-m", "studies.attention.run", json.dumps(description)]


def start(job: Job, core: int, places: Places, overrides: dict[str, Any]) -> Running:
    log = places.workdir / "logs" / f"{job.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    (places.workdir / "progress" / job.name).unlink(missing_ok=True)
    with log.open("w") as output:
        process = subprocess.Popen(
            command(job, places, overrides),
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(places.workdir),
        )
    # Set before the process imports jax, which creates one thread per usable core.
    os.sched_setaffinity(process.pid, {core})
    return Running(job, process, core, log)


def steps_done(running: Running, workdir: Path) -> int:
    try:
        return int((workdir / "progress" / running.job.name).read_text())
    except (FileNotFoundError, ValueError):
        return 0


def work(jobs: list[Job], cores: list[int], places: Places, overrides: dict[str, Any]) -> list[str]:
    """Runs all jobs and returns a line for each that failed."""
    waiting, running, free, failures = list(jobs), [], list(cores), []
    total = sum(job.num_steps for job in jobs)
    done = 0
    with tqdm(total=total, unit="step", dynamic_ncols=True, mininterval=0.2 if sys.stderr.isatty() else 60) as bar:
        try:
            while waiting or running:
                while waiting and free:
                    running.append(start(waiting.pop(0), free.pop(0), places, overrides))
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
                bar.n = done + sum(steps_done(one, places.workdir) for one in running)
                bar.set_postfix_str(f"{len(waiting) + len(running)} runs to go, {len(failures)} failed", refresh=False)
                bar.refresh() if sys.stderr.isatty() else bar.update(0)
        finally:
            for one in running:
                one.process.terminate()
            for one in running:
                one.process.wait()
    return failures


def draw_images(data_names: Iterable[str], places: Places, overrides: dict[str, Any]) -> None:
    """Creates the image caches before any run starts; otherwise two runs would draw the images twice."""
    for data in data_names:
        config = resolve(data, ROWS["none"], places.root, "", overrides)
        open_sources(data, config, places.workdir / "images")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path("runs/study"), help="for runs, parameters and logs")
    parser.add_argument("--rows", type=_names(ROWS), default=list(ROWS), help="forms of attention, separated by commas")
    parser.add_argument("--seeds", type=lambda text: list(map(int, text.split(","))), default=[0, 1, 2])
    parser.add_argument("--data", type=_names(DATA), default=["challenge"], help=f"some of {', '.join(DATA)}")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="runs at a time")
    parser.add_argument("--data_root", default="data", help="folder with bccd/, neu_det/ and cards/")
    parser.add_argument("--weights", default="", help="ResNet-18 weights, complete or partial, for bccd and neu_det")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=JSON",
        help="a config value for all runs, for trials",
    )
    parsed = parser.parse_args(arguments)
    if not parsed.weights and set(parsed.data) - {*GENERATED, *WEIGHTS}:
        parser.error(
            "--weights: expected ImageNet weights of a ResNet-18 for bccd and neu_det, found none; name a file"
        )
    return parsed


def _names(known: Iterable[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        if unknown := [name for name in text.split(",") if name not in known]:
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(known)}; found {', '.join(unknown)}")
        return text.split(",")

    return names


def main(arguments: Sequence[str] | None = None) -> None:
    given = parse(arguments)
    places = Places(given.workdir, given.data_root, given.weights)
    overrides = {key: json.loads(value) for key, value in (text.split("=", 1) for text in given.set)}
    jobs = plan(given.data, given.rows, given.seeds, places, overrides)
    there = {(run["data"], run["row"], run["seed"], run["digest"]) for run in read_runs(places.workdir)}
    missing = [job for job in jobs if job[:4] not in there]
    print(f"{len(jobs)} runs, {len(jobs) - len(missing)} of them done", flush=True)
    if not missing:
        return
    draw_images(dict.fromkeys(job.data for job in missing), places, overrides)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # `finally` then ends the runs too
    cores = sorted(os.sched_getaffinity(0))
    cores = [cores[i % len(cores)] for i in range(given.processes)]
    failures = work(missing, cores, places, overrides)
    print("\n".join([f"{len(missing) - len(failures)} runs done, {len(failures)} failed", *failures]))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    with safe_output():
        main()
