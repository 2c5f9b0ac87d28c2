"""The console script: `lga_jax COMMAND --flags`. Slow modules are imported only by the command.

Here only what Python has imported at its own start: Ctrl-C during an import is one line, too.
"""

import importlib
import os
import sys

COMMANDS = {
    "train": "train a detector, or resume a run",
    "watch": "write a page of a run that is training",
    "eval": "score a checkpoint with COCO's metrics",
    "compare": "compare evaluated runs, with bootstrap intervals",
    "predict": "detect objects in images, a video or the frames of a camera",
    "suggest": "write a recipe for a data set and this machine",
    "doctor": "look for faults in the data of a recipe",
    "preview": "draw the images as training sees them",
    "prepare": "prepare data sets of TensorFlow Datasets, or a folder with COCO annotations, for fast reading",
    "convert": "convert YOLO's or Pascal VOC's annotations to COCO JSON",
    "weights": "list public weights that can be imported",
    "import-weights": "make a checkpoint of another project's detector",
    "export": "write a detector as one file that runs without this project",
    "export-weights": "write a checkpoint as torchvision's detector",
    "recipes": "list the recipes, or copy one to start from",
    "environment": "print versions and devices, for a bug report",
}

# Folders of commands that are not directly in lga_jax.commands.
_FOLDERS = {
    **dict.fromkeys(("compare", "watch"), "runs."),
    **dict.fromkeys(("convert", "doctor", "prepare", "preview", "suggest"), "data."),
    **dict.fromkeys(("export-weights", "import-weights", "weights"), "weights."),
}


def start(*command: str) -> None:
    """Runs the command of a script, with the arguments of the process. The script may start again."""
    try:
        from lga_jax.command_line.huge_pages import use_huge_pages

        use_huge_pages()
    except KeyboardInterrupt:
        _end_interrupted()
    main([*command, *sys.argv[1:]])


def main(arguments: list[str] | None = None) -> None:
    """Runs a command. `arguments`: its name and flags, by default the arguments of the process."""
    try:
        from lga_jax.terminal import safe_output

        with safe_output():
            _dispatch(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:  # during imports
        _end_interrupted()


def _end_interrupted() -> None:
    print("interrupted", file=sys.stderr)
    os._exit(130)


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(_overview())
    elif arguments[0] == "--version":
        print(f"lga_jax {_version()}")
    elif (name := arguments[0].replace("_", "-")) in COMMANDS:
        sys.argv = [f"lga_jax {name}", *arguments[1:]]
        importlib.import_module(module_of(name)).main()
    else:
        from lga_jax.errors import escaped

        print(f"error: {escaped(_unknown(arguments[0]))}", file=sys.stderr)
        sys.exit(2)


def module_of(name: str) -> str:
    """The module of a command."""
    return f"lga_jax.commands.{_FOLDERS.get(name, '')}{name.replace('-', '_')}"


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {about}" for name, about in COMMANDS.items()]
    return "\n".join(["usage: lga_jax COMMAND --flags", "", *lines, "", "lga_jax COMMAND --help shows its flags."])


def _unknown(given: str) -> str:
    import difflib

    near = difflib.get_close_matches(given.replace("_", "-"), COMMANDS, 1, cutoff=0.5)
    remedy = f"did you mean {near[0]}?" if near else "lga_jax --help lists the commands"
    return f"{given}: expected a command, found an unknown one; {remedy}"


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lga_jax")
    except PackageNotFoundError:  # a checkout that is not installed
        return "not installed"


if __name__ == "__main__":
    start()
