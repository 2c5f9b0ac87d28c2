"""Detects objects in an image, a folder of images, a video or the frames of a camera with a trained model.

    python predict.py --workdir runs/coco --input photos --output found
    python predict.py --workdir runs/coco --input street.mp4 --output found
    python predict.py --workdir runs/coco --input 0 --output found

The checkpoint holds all other settings. Writes OUTPUT/detections.json (COCO results with file names, the centres and
extents of the Gaussian masks, and with a mask head the object masks as RLE) and, for each image, a picture of them. A
video gives a video OUTPUT/NAME.mp4 instead, and the image_id is the number of the frame. A number is a camera; Ctrl-C
or --frames ends it. For many images on an accelerator: --batch_size 8 --nopictures. --flip, --scales and --tile predict
several views of each image and merge them. --attention adds a sheet below each picture: what every mask of every object
looks at.
"""

from absl import flags

from lga_jax.command_line import parsing
from lga_jax.command_line.views import define_views
from lga_jax.errors import UserError
from lga_jax.memory import check_limits
from lga_jax.stores.place import check_place
from lga_jax.terminal import say


class _Threshold(flags.ArgumentParser):
    syntactic_help = "a number from 0 to 1, or auto"

    def parse(self, argument: str | float) -> str | float:
        if argument == "auto":
            return argument
        number = float(argument)
        if not 0 <= number <= 1:
            raise ValueError(f"expected {self.syntactic_help}")
        return number


def main() -> None:
    """Reads the flags, restores and predicts."""
    workdir = parsing.define_path("workdir", "Folder of the run, or an exported .stablehlo file.", check_place)
    place = parsing.define_path("input", "An image, a folder of images, a video, or the number of a camera.")
    output = parsing.define_path("output", "A new or empty folder for detections.json and the pictures or the video.")
    step = flags.DEFINE_string("step", "best", "Checkpoint: best, latest, or the number of a step.")
    score = flags.DEFINE(
        _Threshold(), "score_threshold", 0.5, "Least score of a detection; auto: the best F1 in the run's evaluation."
    )
    batch_size = flags.DEFINE_integer("batch_size", 1, "Images per device in one pass.", lower_bound=1)
    pictures = flags.DEFINE_boolean("pictures", True, "Draw a picture of each image, or a video.")
    attention = flags.DEFINE_boolean("attention", False, "Below each picture, show what the Gaussian masks look at.")
    frames = flags.DEFINE_integer("frames", None, "Stop after this many frames of a video or camera.", lower_bound=1)
    views = define_views()
    flags.mark_flags_as_required(["workdir", "input", "output"])

    def run() -> None:
        check_limits()
        # Imports take seconds; faults of the flags are reported before.
        from lga_jax.checkpoints.read import parse_step
        from lga_jax.data.video import is_video
        from lga_jax.inference.best_threshold import AUTO
        from lga_jax.inference.folder_job import predict_folder
        from lga_jax.inference.predictor import load
        from lga_jax.inference.video_job import predict_video
        from lga_jax.inference.views import Views

        of_video = is_video(place.value)
        if frames.value is not None and not of_video:
            expected, remedy = "a video or a camera as --input", "leave the flag out"
            raise UserError("--frames", expected=expected, found=place.value, remedy=remedy)
        if attention.value and (of_video or not pictures.value):
            found = f"{place.value}, a video or a camera" if of_video else "--nopictures"
            raise UserError("--attention", expected="pictures of images", found=found, remedy="leave the flag out")
        predictor = load(workdir.value, parse_step(step.value), views=Views(**views()))
        model = predictor.recipe.model
        if attention.value and "lga" not in (model.attention, *model.cascade.attentions):
            found = f"model.attention {model.attention!r}"
            raise UserError(
                "--attention", expected="a model with Gaussian masks", found=found, remedy="leave the flag out"
            )
        say(predictor.title)
        threshold = predictor.best_threshold() if score.value == AUTO else score.value
        if score.value == AUTO:
            say(f"score threshold {threshold:g}, with the best F1 in the evaluation of this checkpoint")
        settings = dict(score_threshold=threshold, batch_size=batch_size.value, pictures=pictures.value)
        if of_video:
            predict_video(predictor, place.value, output.value, **settings, most_frames=frames.value)
        else:
            predict_folder(predictor, place.value, output.value, **settings, close_ups=attention.value)

    parsing.run(run)


if __name__ == "__main__":
    main()
