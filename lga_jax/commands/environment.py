"""Prints facts for a bug report: versions, devices, the processor, memory and environment variables.

    lga_jax environment

Changes nothing, and works where jax finds no device.
"""

import argparse

from lga_jax.command_line.environment import describe
from lga_jax.command_line.parsing import exit_on_user_error
from lga_jax.terminal import say


def main() -> None:
    """Prints the lines."""
    exit_on_user_error(_run)()


def _run() -> None:
    argparse.ArgumentParser(
        prog="lga_jax environment", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    say("\n".join(f"{name}: {value}" for name, value in describe()))


if __name__ == "__main__":
    main()
