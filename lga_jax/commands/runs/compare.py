"""Compares evaluated runs on the same images, with bootstrap intervals.

    lga_jax compare runs/none runs/lga
    lga_jax compare runs/none/eval_500 runs/lga/eval_500 --output compared --samples 2000

Each RUN is a folder in which eval.py has written an evaluation, or an eval_STEP folder itself; it may be in a bucket,
gs://BUCKET/FOLDER or s3://BUCKET/FOLDER. The first one is the baseline. Prints scores and differences, and writes
comparison.html and comparison.json into --output. The images and annotations of data.eval must be where they were.
"""

import argparse
import os

from lga_jax.command_line.parsing import exit_on_user_error
from lga_jax.errors import UserError
from lga_jax.files import make_folder
from lga_jax.terminal import say


def main() -> None:
    """Reads the command line and compares."""
    exit_on_user_error(_run)()


def _run() -> None:
    parser = argparse.ArgumentParser(
        prog="lga_jax compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="+", type=os.path.expanduser, help="an evaluated run; the first is the baseline")
    parser.add_argument("--output", default="comparison", type=os.path.expanduser, help="folder for the page")
    parser.add_argument("--samples", default=1000, type=int, help="bootstrap samples of the images")
    given = parser.parse_args()
    _compare(given.run, given.output, given.samples)


def _compare(runs: list[str], output: str, num_samples: int) -> None:
    from lga_jax.evaluation.comparison import compare, read_evaluations
    from lga_jax.report.comparison_page import MOST_RUNS, format_comparison, write_comparison

    if not 2 <= len(runs) <= MOST_RUNS:
        raise UserError("RUN", expected=f"2 to {MOST_RUNS} runs", found=str(len(runs)))
    if not 1 <= num_samples <= 100_000:
        raise UserError("--samples", expected="1 to 100000", found=str(num_samples))
    with read_evaluations(runs) as evaluations:
        make_folder(output)
        comparison = compare(evaluations, num_samples)
        say(format_comparison(comparison))
        written = write_comparison(comparison, [evaluation.folder.parent for evaluation in evaluations], output)
    say(f"written: {', '.join(map(str, written))}")


if __name__ == "__main__":
    main()
