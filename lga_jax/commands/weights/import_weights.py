"""Converts a detector of another project to a checkpoint: step 0 of a run for train, eval and predict.

    lga_jax import-weights --config coco_torchvision_v1 --weights fasterrcnn.pth --workdir runs/tv

The recipe must describe exactly the model of the weights; differences are listed. Detectors of COCO's classes need no
data. For other detectors without class names in the file, data.eval of the recipe gives the names.
"""

from absl import flags

from lga_jax.command_line import parsing


def main() -> None:
    """Reads the flags."""
    config = parsing.define_config("Recipe of the same model, by name or path.")
    weights = parsing.define_path("weights", "File of weights, hf://ORG/REPO/FILE, or the workdir of a run.", None)
    workdir = parsing.define_path("workdir", "Folder of the run that begins with these weights.")
    flags.mark_flags_as_required(["weights", "workdir"])

    def run() -> None:
        from lga_jax.training.import_detector import import_weights  # takes seconds; faults are reported before

        import_weights(config.value, weights.value, workdir.value)

    parsing.run(run, config)


if __name__ == "__main__":
    main()
