"""Detects objects in an image or a folder of images with a trained model.

    python predict.py --workdir runs/coco --input photos --output found

Everything else is known to the checkpoint. Writes OUTPUT/detections.json (COCO results with file names and the centres
and extents of the Gaussian masks) and, for each image, a picture of them. For many images on an accelerator:
--batch_size 8 --nopictures.
"""

from absl import flags

from lga_jax import errors
from lga_jax.train.checkpoint import restore_params
from lga_jax.train.step import replicate
from lga_jax.visualization.predict import predict

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run, as train.py has it.")
_INPUT = flags.DEFINE_string("input", None, "An image, or a folder of images.")
_OUTPUT = flags.DEFINE_string("output", None, "A new or empty folder for detections.json and the pictures.")
_STEP = flags.DEFINE_integer("step", None, "Step of the checkpoint; without it the latest.", lower_bound=0)
_SCORE = flags.DEFINE_float("score_threshold", 0.5, "Least score of a detection.", lower_bound=0.0, upper_bound=1.0)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 1, "Images that pass the network together, a device.", lower_bound=1)
_PICTURES = flags.DEFINE_boolean("pictures", True, "Draw a picture of each image.")
flags.mark_flags_as_required(["workdir", "input", "output"])


def main() -> None:
    """Restores, predicts."""
    saved = restore_params(_WORKDIR.value, _STEP.value)
    predict(
        saved.manifest,
        replicate(saved.variables),
        _INPUT.value,
        _OUTPUT.value,
        score_threshold=_SCORE.value,
        batch_size=_BATCH_SIZE.value,
        pictures=_PICTURES.value,
    )


if __name__ == "__main__":
    errors.run(main)
