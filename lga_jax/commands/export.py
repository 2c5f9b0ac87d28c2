"""Exports a detector to one file that runs without this project.

    lga_jax export --workdir runs/coco --format stablehlo --output detector.stablehlo

stablehlo: for jax on CPUs, GPUs and TPUs; examples/run_stablehlo.py runs it with jax and numpy alone, and lga_jax.load
reads it. onnx: for onnxruntime, OpenVINO and others; examples/run_onnx.py runs it with onnxruntime and numpy alone.
docs/export.md describes the files.
"""

import re

from absl import flags

from lga_jax.command_line import parsing
from lga_jax.errors import UserError
from lga_jax.memory import check_limits
from lga_jax.stores.place import check_place
from lga_jax.terminal import say


def main() -> None:
    """Reads the flags."""
    workdir = parsing.define_path("workdir", "Folder of the run.", check_place)
    kind = flags.DEFINE_enum("format", None, ["stablehlo", "onnx"], "Format of the file.")
    output = parsing.define_path("output", "A new file; default WORKDIR/detector.FORMAT.")
    step = flags.DEFINE_string("step", "best", "Checkpoint: best, latest, or the number of a step.")
    size = flags.DEFINE_string("size", None, "HEIGHTxWIDTH of padded images; default the buckets of the recipe.")
    score = flags.DEFINE_float(
        "score_threshold", None, "Least score of a detection; default the recipe's.", lower_bound=0.0, upper_bound=1.0
    )
    dtype = flags.DEFINE_enum(
        "dtype", "float32", ["float32", "float16", "bfloat16"], "Weights and activations of an ONNX file."
    )
    flags.mark_flags_as_required(["workdir", "format"])

    def run() -> None:
        check_limits()
        hw = _size(size.value)
        # Imports take seconds; faults of the flags are reported before.
        from lga_jax.checkpoints.read import parse_step
        from lga_jax.exporting.export import export

        place = output.value or f"{workdir.value}/detector.{kind.value}"
        settings = dict(step=parse_step(step.value), size=hw, score_threshold=score.value, dtype=dtype.value)
        say(export(workdir.value, place, format=kind.value, **settings))

    parsing.run(run)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    if not (found := re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", text)):
        raise UserError("--size", expected="HEIGHTxWIDTH, for example 480x640", found=repr(text))
    return int(found[1]), int(found[2])


if __name__ == "__main__":
    main()
