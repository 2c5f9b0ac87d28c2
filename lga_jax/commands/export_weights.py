"""Writes a checkpoint's detector as a state dict of torchvision's Faster R-CNN.

    python -m lga_jax.commands.export_weights --format torchvision --workdir runs/coco --output detector.safetensors

The file is .safetensors, with the class names in its metadata, or .pth, which needs torch. It holds the moving average
of the parameters where the run keeps one. What torchvision cannot compute (attention, say) cannot be exported.
"""

from absl import flags

from lga_jax.checkpoints.export_torchvision import export_weights
from lga_jax.commands import command_line


def main() -> None:
    """Reads the flags."""
    flags.DEFINE_enum("format", None, ["torchvision"], "Whose names and conventions the file has.")
    workdir = flags.DEFINE_string("workdir", None, "Folder of the run.")
    step = flags.DEFINE_integer("step", None, "Step of the checkpoint; without it the latest.", lower_bound=0)
    output = flags.DEFINE_string("output", None, "A new file: .safetensors or .pth.")
    flags.mark_flags_as_required(["format", "workdir", "output"])
    command_line.run(lambda: export_weights(workdir.value, step.value, output.value))


if __name__ == "__main__":
    main()
