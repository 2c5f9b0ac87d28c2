"""Runs parts of the harness: python -m tests.torture [PART ...] [--trials N].

An interrupted part goes on where it stopped. Results: OUTPUT/PART.jsonl, one line per trial, OUTPUT/results.json, and
the table of docs/reliability.md.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tests.torture import table
from tests.torture.failing_disk import failing_disk
from tests.torture.goals import PARTS


def _environment(part: str, scratch: Path) -> dict[str, str]:
    """Programs are compiled once for all processes."""
    preload = failing_disk(scratch) if part == "disk" else None
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "1",
        "JAX_COMPILATION_CACHE_DIR": str(scratch / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "MPLBACKEND": "Agg",
        **({"LD_PRELOAD": str(preload)} if preload else {}),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="default: all")
    parser.add_argument("--trials", type=int, help="of each part; default: as many as its row promises")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="runs/torture", help="folder of the results")
    parser.add_argument("--scratch", default="runs/torture/scratch", help="folder of the runs that are damaged")
    parser.add_argument("--page", type=Path, help="page whose table is written, for example docs/reliability.md")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Each part runs in a process of its own, whose environment jax reads at its import."""
    arguments = _arguments()
    if arguments.here:
        from tests.torture import parts

        parts.run(arguments.parts[0], Path(arguments.scratch), Path(arguments.output), arguments.trials, arguments.seed)
        return
    scratch, output = Path(arguments.scratch).resolve(), Path(arguments.output).resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    for name in arguments.parts or PARTS:
        print(f"{name}: {PARTS[name].about}", flush=True)
        places = ["--scratch", str(scratch), "--output", str(output), "--seed", str(arguments.seed)]
        trials = ["--trials", str(arguments.trials)] if arguments.trials else []
        command = [sys.executable, "-m", "tests.torture", "--here", name, *places, *trials]
        subprocess.run(command, env=_environment(name, scratch), check=True)
    table.write([output], arguments.page)


if __name__ == "__main__":
    main()
