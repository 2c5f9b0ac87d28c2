"""AP on COCO val2017 of every public detector that can be imported, beside the published AP.

    python -m benchmarks.zoo --coco data/coco --page benchmarks/zoo.md

Needs a network, COCO 2017 (annotations/instances_val2017.json and val2017) and a GPU or patience. Each detector of
`lga_jax weights` is downloaded, compared with its digest, imported, and scored by `lga_jax eval`. FOLDER/results.jsonl
has a line for each finished detector; it is not repeated. A detector that fails is reported, and the others continue.
"""

import argparse
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from lga_jax.files import write_atomically
from lga_jax.weights.zoo import DETECTORS, PublicDetector, check_file

_LIMIT = 2**30  # bytes of a download; the largest file has 330 MB
_PIECE = 2**20


def main() -> None:
    """Runs the list and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--coco", default="data/coco", help="folder with annotations/ and val2017/")
    parser.add_argument("--folder", type=Path, default=Path("runs/zoo"), help="downloads, runs and results")
    parser.add_argument("--page", type=Path, help="file for the table")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - DETECTORS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(DETECTORS)}")
    failed = run_all(arguments.names or list(DETECTORS), arguments.coco, arguments.folder)
    text = table(read_results(arguments.folder))
    print(text)
    if arguments.page:
        write_atomically(arguments.page, text.encode())
    sys.exit(1 if failed else 0)


def run_all(names: Sequence[str], coco: str, folder: Path) -> list[str]:
    """Scores the detectors that have no line yet. Returns the names of those that failed."""
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in names:
        if name in read_results(folder):
            continue
        try:
            summary = score(name, DETECTORS[name], coco, folder)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            print(f"{name} failed: {error}", file=sys.stderr)
            failed.append(name)
            continue
        with (folder / "results.jsonl").open("a") as file:
            file.write(json.dumps({"name": name, "summary": summary}) + "\n")
    return failed


def score(name: str, detector: PublicDetector, coco: str, folder: Path) -> dict[str, float]:
    """Downloads, imports and evaluates one detector. Returns COCO's twelve numbers.

    Raises OSError, ValueError (a wrong digest) or CalledProcessError.
    """
    download(detector, folder)
    workdir = folder / name
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), os.getenv("PYTHONPATH")]))}
    for command in detector.commands(str(workdir), str(folder)):
        step = command[1]
        data = [f"--config.data.eval.root={coco}"] if step == "eval" else []
        if step == "import-weights" and (workdir / "checkpoints").exists():
            continue
        subprocess.run([sys.executable, "-m", "lga_jax.commands", *command[1:], *data], check=True, env=environment)
    return json.loads((workdir / "eval_0" / "metrics.json").read_text())["summary"]


def download(detector: PublicDetector, folder: Path) -> None:
    """Fetches the file unless it is there, and checks its digest. Raises OSError or ValueError."""
    path = folder / detector.file
    if not path.exists():
        part = path.with_name(path.name + ".part")
        with urllib.request.urlopen(detector.address, timeout=60) as answer, part.open("wb") as file:
            size = int(answer.headers.get("Content-Length") or 0)
            with tqdm(total=size or None, desc=detector.file, unit="B", unit_scale=True) as bar:
                while piece := answer.read(_PIECE):
                    if bar.n + len(piece) > _LIMIT:
                        raise ValueError(f"{detector.address} has more than {_LIMIT} bytes")
                    file.write(piece)
                    bar.update(len(piece))
        part.replace(path)
    check_file(detector, path)


def read_results(folder: Path) -> dict[str, dict[str, float]]:
    """COCO's twelve numbers of every finished detector."""
    path = folder / "results.jsonl"
    lines = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
    return {line["name"]: line["summary"] for line in lines}


def table(results: dict[str, dict[str, float]]) -> str:
    """A Markdown table. A detector without a result has a dash."""
    lines = ["| detector | recipe | published AP | AP here | AP50 | AP75 |", "|---|---|---|---|---|---|"]
    for name, entry in DETECTORS.items():
        scores = results.get(name, {})
        ours = [f"{100 * scores[key]:.1f}" if key in scores else "-" for key in ("AP", "AP50", "AP75")]
        lines.append(f"| {name} | {entry.recipe} | {entry.box_ap:.1f} | {' | '.join(ours)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
