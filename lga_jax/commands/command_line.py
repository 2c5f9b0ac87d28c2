"""What every command shares: flags, and faults of the user as one line."""

import os
import re
import sys
from collections.abc import Callable

from absl import app, flags, logging
from ml_collections import config_flags

from lga_jax.errors import UserError


def exit_on_user_error(main: Callable[..., None]) -> Callable[..., None]:
    """Wraps a script's main: a UserError becomes one line on stderr and exit status 2, without a traceback.

    So does Ctrl-C, with exit status 130; threads that still download or decode are not waited for.
    """

    def wrapped(*args: object) -> None:
        try:
            main(*args)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.stdout.flush()
            os._exit(130)

    return wrapped


def run(main: Callable[[], None]) -> None:
    """Runs a script: parses the absl flags, then calls `main()` and exits with status 0.

    A UserError, a faulty flag, an unknown config key or a config file that cannot be loaded ends as one line on stderr
    and exit status 2. Any other exception is a fault of ours and keeps its traceback.
    """
    exit_on_user_error(lambda: app.run(lambda argv: main(), flags_parser=_parse_flags))()


def recipe_path() -> str:
    """Where the recipe of --config lies."""
    return config_flags.get_config_filename(flags.FLAGS["config"])


def _parse_flags(argv: list[str]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
        if "config" in flags.FLAGS:
            _ = flags.FLAGS.config.to_dict  # a config file that is missing raises only when it is first read
    except Exception as error:  # whatever is raised here is about what stands on the command line or in the config file
        raise _explain(error, argv) from error
    if len(rest) > 1:
        raise UserError(
            str(rest[1]),
            expected="only flags (--name value)",
            found="a bare argument",
            remedy="see --help",
        )
    if flags.FLAGS["verbosity"].using_default_value:
        flags.FLAGS.verbosity = logging.WARNING  # absl would go on to choose INFO, and Orbax says a lot at that level
    return rest


def _explain(error: Exception, argv: list[str]) -> UserError:
    """One line for an exception out of absl's or ml_collections' flag parsing."""
    lines = [line.strip() for line in str(error.args[0] if error.args else error).splitlines() if line.strip()]
    text = " ".join(lines)
    if missing := re.match(r"flag --(\w+)=None: Flag", text):
        return UserError(
            f"--{missing[1]}",
            expected="a value",
            found="none",
            remedy=f"give --{missing[1]} VALUE (--help lists all flags)",
        )
    if isinstance(error, KeyError | AttributeError) and (unknown := _explain_unknown_key(text, argv)):
        return unknown
    if isinstance(error, flags.Error) and "Error whilst parsing config file" not in text:
        return UserError(text)  # absl's words, which name the flag
    return UserError(
        f"--config {_config_path(argv)}",
        expected="a recipe like configs/coco.py",
        found=_cause(error, lines),
    )


def _explain_unknown_key(text: str, argv: list[str]) -> UserError | None:
    """ml_collections names only the last word of the key it missed; the whole key stands on the command line."""
    found = re.match(r"""["'\\]*(\w+)\\?'""", text) or re.search(r"Attempting to lookup: [\w.]*?(\w+)$", text)
    names = [arg.lstrip("-").split("=")[0] for arg in argv if arg.startswith("-")]
    name = next((name for name in names if found and found[1] in name.split(".")[1:]), None)
    if name is None:
        return None
    nearest = re.search(r'Did you mean "(\w+)"', text)
    remedy = f'did you mean "{nearest[1]}"?' if nearest else "configs/coco.py lists every key"
    return UserError(
        f"--{name}",
        expected="a key of the config",
        found=f'"{found[1]}"',
        remedy=remedy,
    )


def _config_path(argv: list[str]) -> str:
    for arg, following in zip(argv, [*argv[1:], ""], strict=True):
        if arg.lstrip("-") == "config":
            return following
        if arg.lstrip("-").startswith("config="):
            return arg.split("=", 1)[1]
    return "(not given)"


def _cause(error: Exception, lines: list[str]) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.msg}, line {error.lineno} of {error.filename}"
    if isinstance(error, OSError):
        return "no such file" if "Failed loading" in str(error) else lines[-1].split("failure to load: ")[-1]
    return lines[-1] if lines else type(error).__name__
