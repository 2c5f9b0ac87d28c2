"""Writes a page of a run that is training: losses, AP and sample pictures of the latest evaluation.

    lga_jax watch runs/coco
    lga_jax watch runs/coco --every 0

Writes WORKDIR/watch.html, and writes it again whenever the run logs something, until Ctrl-C. A browser that shows the
page loads it again by itself. --every 0 writes the page once. The run itself is not disturbed.
"""

import argparse
import os
import time
from pathlib import Path

from lga_jax.command_line.parsing import exit_on_user_error
from lga_jax.errors import UserError
from lga_jax.terminal import say


def main() -> None:
    """Reads the command line and writes the page."""
    exit_on_user_error(_run)()


def _run() -> None:
    parser = argparse.ArgumentParser(
        prog="lga_jax watch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workdir", type=os.path.expanduser, help="the folder of the run")
    parser.add_argument("--every", default=10, type=int, help="seconds between two looks; 0: write the page once")
    given = parser.parse_args()
    if not 0 <= given.every <= 86_400:
        raise UserError("--every", expected="0 to 86400 seconds", found=str(given.every))
    if not Path(given.workdir).is_dir():
        raise UserError(given.workdir, expected="the folder of a run", found="no folder", remedy="train first")
    _watch(given.workdir, given.every)


def _watch(workdir: str, seconds: int) -> None:
    from lga_jax.report.watch_page import write_watch_page

    say(f"written: {write_watch_page(workdir, seconds)}" + (", until Ctrl-C" if seconds else ""))
    seen = _changed_at(workdir)
    while seconds:
        time.sleep(seconds)
        if (now := _changed_at(workdir)) != seen:
            write_watch_page(workdir, seconds)
            seen = now


def _changed_at(workdir: str) -> list[int]:
    """When the files of the page were changed."""
    paths = [Path(workdir, "metrics.jsonl"), *sorted(Path(workdir, "samples").glob("sample_*.jpg"))]
    return [path.stat().st_mtime_ns for path in paths if path.is_file()]


if __name__ == "__main__":
    main()
