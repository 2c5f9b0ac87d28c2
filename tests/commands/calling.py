"""Runs a command in this process: compiled programs and imports are shared, and a fault is seen at once."""

import io
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

import pytest
from absl import flags, logging


class Done(NamedTuple):
    status: int
    stdout: str
    stderr: str


def run_command(module, *args, folder=None):
    """`module.main()` with these arguments, in `folder`; as subprocess.run describes what came of it."""
    stdout, stderr = io.StringIO(), io.StringIO()
    before, verbosity = set(flags.FLAGS), logging.get_verbosity()
    status = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(stdout), redirect_stderr(stderr):
        patch.setattr("sys.argv", [module.__name__, *map(str, args)])
        if folder:
            patch.chdir(folder)
        try:
            module.main()
        except SystemExit as end:
            status = end.code or 0
        finally:
            flags.FLAGS.remove_flag_values({name: flags.FLAGS[name] for name in set(flags.FLAGS) - before})
            flags.FLAGS.unparse_flags()
            logging.set_verbosity(verbosity)
    return Done(int(status), stdout.getvalue(), stderr.getvalue())
