"""Runs the speed benchmarks one at a time, each in a separate process, and writes one report.

    python -m benchmarks.bench --output benchmarks/speed [--only ops,step] [--quick]

OUTPUT/speed.json holds all rows, OUTPUT/README.md the tables; the plots are beside it. With `--only` the other parts
keep their rows in OUTPUT/speed.json, with the machine on which they were measured.
"""

import argparse
import ast
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

from tqdm import tqdm

from benchmarks import timing

# Module -> approximate seconds on two cores, for the progress bar.
PARTS = {"ops": 90, "against_torchvision": 1100, "step": 850, "compile_time": 200, "scaling": 280}
WITH_PLOTS = ("scaling",)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/speed"), help="Folder of the report.")
    parser.add_argument("--only", default=",".join(PARTS), help=f"Some of {', '.join(PARTS)}.")
    parser.add_argument("--quick", action="store_true", help="Tiny sizes: does everything run?")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    stored = args.output / "speed.json"
    report = json.loads(stored.read_text()) if stored.exists() else {}
    failed = []
    names = [name for name in PARTS if name in args.only.split(",")]
    with tqdm(total=sum(PARTS[name] for name in names), bar_format="{desc} {bar} {elapsed} + {remaining}") as bar:
        bar.set_description("machine")
        measured = timing.measure_machine(args.quick)
        (args.output / "machine.json").write_text(json.dumps(measured))
        for name in names:
            try:
                report[name] = _run(name, measured, args, bar)
            except subprocess.CalledProcessError as error:
                failed.append(f"{name}: {error}")
                continue
            # Written after every part, so that an interrupted run keeps its results.
            stored.write_text(json.dumps(report, indent=1) + "\n")
            (args.output / "README.md").write_text(page(report, args.output))
    (args.output / "machine.json").unlink()
    print(f"{args.output / 'README.md'}", *failed, sep="\n")
    return len(failed) > 0


def _run(name: str, measured: list[dict], args: argparse.Namespace, bar: tqdm) -> dict:
    flags = ["--json", "--machine", str((args.output / "machine.json").resolve()), *(["--quick"] if args.quick else [])]
    start, before, rows = time.perf_counter(), bar.n, []
    bar.set_description(name)
    for row in timing.results(timing.start(name, *flags)):
        rows.append(row)
        bar.set_description(f"{name}: {row['what']}"[:60])
        bar.n = before + min(time.perf_counter() - start, PARTS[name])
        bar.refresh()
    bar.n = before + PARTS[name]
    bar.refresh()
    command = f"python -m benchmarks.{name}{' --quick' if args.quick else ''}"
    return {"command": command, "seconds": time.perf_counter() - start, "machine": measured, "rows": rows}


def page(report: dict, folder: Path) -> str:
    """All tables; the plots are drawn into the folder."""
    how = (
        "Written by `make bench` on a CPU. On a GPU install the extras `cuda` and `bench` and run "
        "`python -m benchmarks.bench --output FOLDER`."
    )
    parts = [
        "# Speed",
        how,
        _after(_docstring("timing"), "How to read"),
    ]
    for name in filter(report.get, PARTS):
        part = report[name]
        title, _, text = _docstring(name).partition(".\n\n")
        paragraphs = [text for text in text.split("\n\n") if not text.startswith("    ")]
        parts += [f"## {title}", f"    {part['command']}", *paragraphs]
        parts.append(timing.markdown(part["rows"]))
        if name in WITH_PLOTS:
            drawn = importlib.import_module(f"benchmarks.{name}").plots(part["rows"], folder)
            parts += [f"![{Path(image).stem}]({image})" for image in drawn]
        machine = timing.read_machine(part["machine"])
        parts.append(f"Measured in {part['seconds']:.0f} s on: {machine.line}.")
    machines = {json.dumps(report[name]["machine"]): report[name]["machine"] for name in filter(report.get, PARTS)}
    return "\n\n".join([*parts, *(timing.markdown(machine, level=2) for machine in machines.values())]) + "\n"


def _docstring(name: str) -> str:
    return ast.get_docstring(ast.parse((Path(__file__).parent / f"{name}.py").read_text()))


def _after(text: str, start: str) -> str:
    return text[text.index(start) :]


if __name__ == "__main__":
    sys.exit(main())
