"""Makes a checkpoint of another project's detector: eval.py, predict.py and train.py take it for step 0 of a run.

    lga_jax import-weights --config coco_torchvision_v1 --weights fasterrcnn.pth --workdir runs/tv

The config must describe the very model that the weights belong to; what differs is named. No data is needed for
detectors of COCO's classes; for others whose classes the file does not name, data.eval of the config names them.
"""

from absl import flags

from lga_jax.commands import command_line


def main() -> None:
    """Reads the flags."""
    config = command_line.define_config("Recipe of the same model, by name or path.")
    weights = command_line.define_path("weights", "File of weights, hf://ORG/REPO/FILE, or the workdir of a run.")
    workdir = command_line.define_path("workdir", "Folder of the run that begins with these weights.")
    flags.mark_flags_as_required(["weights", "workdir"])

    def run() -> None:
        from lga_jax.training.import_detector import import_weights  # takes seconds, faults are told before

        import_weights(config.value, weights.value, workdir.value)

    command_line.run(run, config)


if __name__ == "__main__":
    main()
