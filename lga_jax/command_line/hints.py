"""The text of --help, and the errors for unknown flags."""

import difflib
import re

from absl import flags

from lga_jax.errors import UserError
from lga_jax.recipe import KEYS, names, nearest_keys

_SAME_COMMAND = "repeat the command with the same --workdir to resume the run; no flag is needed"
_DEVICES = (
    "set environment variables to choose devices: JAX_PLATFORMS=cuda, tpu or cpu before the command, and "
    "CUDA_VISIBLE_DEVICES=0 for only the first GPU"
)
_ANSWERS = {
    **dict.fromkeys(("resume", "restart", "continue", "auto_resume", "resume_from"), _SAME_COMMAND),
    **dict.fromkeys(
        ("gpu", "gpus", "device", "devices", "cuda", "cpu", "tpu", "accelerator", "num_gpus", "ngpu"), _DEVICES
    ),
    **dict.fromkeys(
        ("epochs", "num_epochs", "max_epochs", "epoch"),
        "a recipe counts steps: --config.num_steps=N, with N = epochs x images / batch_size",
    ),
    **dict.fromkeys(
        ("augment", "augmentation", "augmentations"),
        "a preset is set with --config.data.augment=none, standard, strong, aerial or text",
    ),
}


def explain(error: flags.Error, known: flags.FlagValues, has_config: bool, argv: list[str]) -> UserError:
    """A one-line error for an exception of absl's flag parsing."""
    if isinstance(error, flags.UnrecognizedFlagError):
        return unknown_flag(error.flagname, known, has_config)
    text = " ".join(str(error.args[0] if error.args else error).split())
    if missing := re.match(r"flag --(\w+)=None: Flag", text):
        return UserError(
            f"--{missing[1]}",
            expected="a value",
            found="none",
            remedy=f"give --{missing[1]} {_example(missing[1], argv)} (--help lists all flags)",
        )
    return UserError(text)  # absl's text contains the flag


def _example(flag: str, argv: list[str]) -> str:
    """An example value. For --config, a recipe's name that is on the command line without --config."""
    if flag != "config":
        return "VALUE"
    return next((argument for argument in argv[1:] if argument in names()), "challenge_demo")


def unknown_flag(name: str, known: flags.FlagValues, has_config: bool) -> UserError:
    """The error for an unknown --name, which suggests a flag, a key of the recipe or the way to do this here."""
    close = difflib.get_close_matches(name, [flag.name for flag in _own_flags(known)], 1, cutoff=0.8)
    if name in _ANSWERS:
        remedy = _ANSWERS[name]
    elif close:
        remedy = f"did you mean --{close[0]}?"
    else:
        remedy = (has_config and _as_key(name)) or "--help lists all flags"
    return UserError(f"--{name}", expected="a flag of this command", found="an unknown flag", remedy=remedy)


def bare_argument(argument: str, has_config: bool) -> UserError:
    """The error for an argument that is no flag."""
    name = argument.partition("=")[0].removeprefix("config.")
    remedy = "--help lists all flags"
    if has_config and argument in names():
        remedy = f"give --config {argument}"
    elif has_config and "=" in argument:
        remedy = _as_key(name) or remedy
    return UserError(argument, expected="only flags (--name value)", found="an argument without a name", remedy=remedy)


def help_text(known: flags.FlagValues, description: str, has_config: bool) -> str:
    """The description and the flags of a command, and the syntax of recipe keys if it has a recipe."""
    own = _own_flags(known)
    width = max((len(flag.name) for flag in own), default=0)
    lines = [description.strip(), "", "flags:"]
    for flag in own:
        default = f" (default {flag.default_as_str})" if flag.default is not None else ""
        lines.append(f"  --{flag.name:<{width}}  {flag.help}{default}")
    if has_config:
        lines += [
            "",
            "Every value of the recipe can be changed: --config.optim.lr=0.01 --config.data.buckets='((640, 640),)'",
            "`lga_jax recipes coco` prints a recipe that explains all keys.",
        ]
    return "\n".join([*lines, "", "--helpfull also lists the flags of all libraries."])


def _as_key(name: str) -> str:
    keys = nearest_keys(name.replace("-", "_"), KEYS)
    return (
        f"a value of the recipe is given as {' or '.join(f'--config.{key}=VALUE' for key in keys[:3])}" if keys else ""
    )


def _own_flags(known: flags.FlagValues) -> list[flags.Flag]:
    """The flags of the command without absl's flags, in the order of their definition."""
    own = [flag for module, entries in known.flags_by_module_dict().items() if not _is_absl(module) for flag in entries]
    own.sort(key=lambda flag: list(known).index(flag.name))
    return own


def _is_absl(module: str) -> bool:
    return module.split(".")[0] == "absl"
