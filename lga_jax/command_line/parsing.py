"""Shared by all commands: flags, the recipe of --config, and one-line errors for the user."""

import atexit
import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType

from absl import app, flags, logging
from ml_collections import ConfigDict

from lga_jax.command_line import hints
from lga_jax.compiled_programs import keep_programs
from lga_jax.errors import UserError, missing_device
from lga_jax.files import remedy_for_writing
from lga_jax.memory import out_of_memory
from lga_jax.recipe import check, default_workdir, load, override
from lga_jax.stores.place import check_local
from lga_jax.terminal import safe_output

_CONFIG = "--config."


class Config:
    """The checked recipe of --config with the values of --config.KEY=VALUE. `run` sets it before it calls main."""

    value: ConfigDict

    def __init__(self, name: flags.FlagHolder) -> None:
        self._name = name

    @property
    def name(self) -> str:
        """The name or path of the recipe on the command line."""
        return self._name.value

    @property
    def default_workdir(self) -> str:
        """runs/coco for coco."""
        return default_workdir(self.name)

    def read(self, changes: dict[str, str]) -> None:
        """Loads the recipe, sets the changes {'optim.lr': '0.01'} and checks it. Raises UserError with all faults."""
        config = load(self.name)
        override(config, changes)
        self.value = check(config)


def define_config(text: str = "Recipe, by name (lga_jax recipes lists them) or path.") -> Config:
    """Defines the required flag --config. `run` reads it."""
    holder = flags.DEFINE_string("config", None, text)
    flags.mark_flag_as_required("config")
    return Config(holder)


class _PathParser(flags.ArgumentParser):
    def __init__(self, check: Callable[[str, str], None] | None) -> None:
        self._check = check

    def parse(self, argument: str) -> str:
        if self._check:
            self._check(argument, "")  # absl adds the name of the flag
        return os.path.expanduser(argument)


def define_path(name: str, text: str, check: Callable[[str, str], None] | None = check_local) -> flags.FlagHolder:
    """Defines a flag for a file or a folder; a leading ~ is replaced by the user's home folder.

    `check`: check_local refuses all URLs, check_place those that are not of an object store; None: none.
    """
    return flags.DEFINE(_PathParser(check), name, None, text)


def exit_on_user_error(main: Callable[..., None]) -> Callable[..., None]:
    """Wraps a script's main: a UserError becomes one line on stderr and exit status 2, without a traceback.

    A recipe with several faults gives one line per fault. Ctrl-C gives one line and exit status 130, without waiting
    for threads that download or decode. A reader of the output that goes away (`| head`) does not end the command.
    """

    def wrapped(*args: object) -> None:
        status = None
        keep_programs()
        with safe_output() as lost:
            try:
                _run(main, *args)
            except SystemExit as end:
                status = end
        if lost and not (status and status.code):
            _end(UserError("standard output", found=str(lost[0].strerror), remedy=remedy_for_writing(lost[0])))
        if status:
            raise status

    return wrapped


def _run(main: Callable[..., None], *args: object) -> None:
    try:
        with _end_interrupted_imports():
            main(*args)
    except UserError as error:
        _end(error)
    except KeyboardInterrupt:
        _end_interrupted()
    except (RuntimeError, AssertionError, MemoryError) as error:
        fault = out_of_memory(error) or missing_device(error)
        if fault is None:
            raise
        _end(fault)


@contextlib.contextmanager
def _end_interrupted_imports() -> Iterator[None]:
    """Makes Ctrl-C end the process during an import; otherwise it raises KeyboardInterrupt as usual.

    Extension modules turn a KeyboardInterrupt into an ImportError, or lose it.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if _is_importing(frame):
            _end_interrupted()
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, or handled elsewhere
        yield
        return
    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_importing(frame: FrameType | None) -> bool:
    while frame and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


def _end_interrupted() -> None:
    print("interrupted", file=sys.stderr)
    sys.stdout.flush()
    os._exit(130)


def stop_at_once() -> None:
    """Makes SIGTERM and Ctrl-C end the process immediately, also while a library compiles: there is nothing to save.

    A shell reports the exit statuses 143 and 130. Signals that the process ignores since its start stay ignored.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def run(main: Callable[[], int | None], config: Config | None = None) -> None:
    """Runs a command: parses the absl flags, reads the recipe, calls `main()` and exits with its result (None: 0).

    A UserError, a faulty flag and each fault of the recipe give one line on stderr and exit status 2. Any other
    exception is a bug of this project and keeps its traceback.
    """
    parser = partial(_parse_flags, config=config, description=sys.modules[main.__module__].__doc__ or "")
    try:
        exit_on_user_error(lambda: app.run(lambda argv: main(), flags_parser=parser))()
    finally:
        atexit.register(_end_at_ctrl_c)


def _end_at_ctrl_c() -> None:
    """Makes Ctrl-C end the process without a traceback from what libraries clean up at its end.

    Registered last and so called first.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(error: UserError) -> None:
    for fault in getattr(error, "faults", (error,)):
        print(f"error: {fault}", file=sys.stderr)
    sys.exit(2)


def _parse_flags(argv: list[str], config: Config | None, description: str) -> list[str]:
    if {"--help", "-help", "-h", "-?"} & set(argv[1:]):
        print(hints.help_text(flags.FLAGS, description, config is not None))
        sys.exit(0)
    changes, rest = _split_changes(argv) if config else ({}, argv)
    try:
        rest = flags.FLAGS(rest)
    except flags.Error as error:
        raise hints.explain(error, flags.FLAGS, config is not None, argv) from error
    if len(rest) > 1:
        raise hints.bare_argument(rest[1], config is not None)
    if flags.FLAGS["verbosity"].using_default_value:
        flags.FLAGS.verbosity = logging.WARNING  # absl's default is INFO, with many lines from Orbax
    if config:
        config.read(changes)
    return rest


def _split_changes(argv: list[str]) -> tuple[dict[str, str], list[str]]:
    """The values of --config.KEY=VALUE or --config.KEY VALUE, and all other arguments."""
    changes, rest = {}, []
    arguments = iter(argv)
    for argument in arguments:
        if not re.match(r"--?config\.", argument):
            rest.append(argument)
            continue
        key, equals, value = argument.lstrip("-").removeprefix("config.").partition("=")
        if not equals:
            value = next(arguments, None)
        if value is None:
            raise UserError(argument, expected="a value", found="none", remedy=f"use {_CONFIG}{key}=VALUE")
        changes[key] = value
    return changes, rest
