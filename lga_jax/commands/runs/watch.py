"""Writes a page of a run that is training: losses, AP and sample pictures of the latest evaluation.

    lga_jax watch runs/coco
    lga_jax watch runs/coco --every 0
    lga_jax watch gs://BUCKET/runs/coco --output .

Writes watch.html into the workdir, or into --output, which a run in a bucket needs. Writes it again whenever the run
logs something, until Ctrl-C. A browser that shows the page loads it again by itself. --every 0 writes the page once.
The run itself is not disturbed.
"""

import argparse
import os
import time
from pathlib import Path

from lga_jax.command_line.parsing import exit_on_user_error
from lga_jax.errors import UserError
from lga_jax.files import make_folder
from lga_jax.stores.place import is_url
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
    parser.add_argument("--output", type=os.path.expanduser, help="folder of the page; default: the workdir")
    given = parser.parse_args()
    if not 0 <= given.every <= 86_400:
        raise UserError("--every", expected="0 to 86400 seconds", found=str(given.every))
    if is_url(given.workdir) and given.output is None:
        raise UserError("--output", expected="a local folder for the page of a run in a bucket", found="none")
    if not is_url(given.workdir) and not Path(given.workdir).is_dir():
        raise UserError(given.workdir, expected="the folder of a run", found="no folder", remedy="train first")
    _watch(given.workdir, given.every, given.output or given.workdir)


def _watch(workdir: str, seconds: int, output: str) -> None:
    from lga_jax.report.watch_page import FILES, write_watch_page
    from lga_jax.stores.copies import state_of_files

    make_folder(output)
    say(f"written: {write_watch_page(workdir, seconds, output)}" + (", until Ctrl-C" if seconds else ""))
    seen = state_of_files(workdir, *FILES)
    while seconds:
        time.sleep(seconds)
        if (now := state_of_files(workdir, *FILES)) != seen:
            write_watch_page(workdir, seconds, output)
            seen = now


if __name__ == "__main__":
    main()
