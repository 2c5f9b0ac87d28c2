"""Makes a checkpoint of another project's detector: eval.py, predict.py and train.py take it for step 0 of a run.

    lga_jax import-weights --config coco_torchvision_v1 --weights fasterrcnn.pth --workdir runs/tv

The config must describe the very model that the weights belong to; what differs is named. No data is needed for
detectors of COCO's classes; for others whose classes the file does not name, data.eval of the config names them.
"""

from absl import flags
from ml_collections import config_flags

from lga_jax.commands import command_line
from lga_jax.train.import_detector import import_weights


def main() -> None:
    """Reads the flags."""
    config = config_flags.DEFINE_config_file("config", None, "Recipe of the same model.", lock_config=True)
    weights = flags.DEFINE_string("weights", None, "File of weights, hf://ORG/REPO/FILE, or the workdir of a run.")
    workdir = flags.DEFINE_string("workdir", None, "Folder of the run that begins with these weights.")
    flags.mark_flags_as_required(["config", "weights", "workdir"])
    command_line.run(lambda: import_weights(config.value, weights.value, workdir.value))


if __name__ == "__main__":
    main()
