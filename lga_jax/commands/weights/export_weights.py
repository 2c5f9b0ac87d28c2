"""Exports the detector of a checkpoint as a state dict of torchvision's Faster R-CNN.

    lga_jax export-weights --format torchvision --workdir runs/coco --output detector.safetensors

The file is .safetensors, with the class names in its metadata, or .pth, which needs torch. It contains the moving
average of the parameters if the run has one. Models that torchvision cannot compute, such as models with attention,
cannot be exported.
"""

from absl import flags

from lga_jax.command_line import parsing
from lga_jax.stores.place import check_place


def main() -> None:
    """Reads the flags."""
    flags.DEFINE_enum("format", None, ["torchvision"], "Project with the names and conventions of the file.")
    workdir = parsing.define_path("workdir", "Folder of the run.", check_place)
    step = flags.DEFINE_string("step", "best", "Checkpoint: best, latest, or the number of a step.")
    output = parsing.define_path("output", "A new file: .safetensors or .pth.")
    flags.mark_flags_as_required(["format", "workdir", "output"])

    def run() -> None:
        # Imports take seconds; faults of the flags are reported before.
        from lga_jax.checkpoints.export_torchvision import export_weights
        from lga_jax.checkpoints.read import parse_step

        export_weights(workdir.value, parse_step(step.value), output.value)

    parsing.run(run)


if __name__ == "__main__":
    main()
