"""Evaluates a checkpoint with COCO's metrics: tables on the terminal, JSON files and an HTML report.

    python eval.py --config configs/coco.py --workdir runs/coco

Runs on any number of devices and needs only the parameters. Writes eval_<step>/{detections,metrics,curves}.json and
report.html with scores, analysis, curves and pictures to --output, by default the workdir. A second evaluation of the
same checkpoint, on other data or with other settings, needs another --output; otherwise it overwrites the first.
--flip, --scales and --tile predict several views of each image and merge them.
"""

import json
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from lga_jax.command_line import parsing
from lga_jax.command_line.views import define_views
from lga_jax.files import make_folder
from lga_jax.memory import check_limits
from lga_jax.stores.place import check_place
from lga_jax.terminal import say


def main() -> None:
    """Reads the flags and scores."""
    config = parsing.define_config()
    workdir = parsing.define_path("workdir", "Folder of the run; default runs/RECIPE.", check_place)
    output = parsing.define_path("output", "Folder for eval_STEP and report.html; default the workdir.", check_place)
    step = flags.DEFINE_string("step", "best", "Checkpoint: best, latest, or the number of a step.")
    views = define_views()

    def run() -> None:
        check_limits()
        place = workdir.value or config.default_workdir
        _score(config.value, place, output.value or place, step.value, views())

    parsing.run(run, config)


def _score(config: ConfigDict, workdir: str, output: str, step: str, views: dict[str, Any]) -> None:
    # Imports take seconds; faults of the recipe are reported before.
    from lga_jax.checkpoints.read import parse_step
    from lga_jax.data.source import fingerprint_of
    from lga_jax.evaluation.evaluate import evaluate, open_data
    from lga_jax.inference.best_threshold import evaluation_folder
    from lga_jax.inference.predictor import load
    from lga_jax.inference.views import Views
    from lga_jax.report.evaluation_page import write_report
    from lga_jax.report.tables import format_result, write_result
    from lga_jax.stores.copies import files_to_read, results_folder

    predictor = load(workdir, parse_step(step), config, views=Views(**views))
    say(predictor.title)
    source = open_data(predictor)
    with results_folder(output) as results, files_to_read(workdir, "metrics.jsonl") as log:
        folder = evaluation_folder(results, predictor.step)
        make_folder(folder)  # reports a folder that cannot be written before hours of work
        result = evaluate(predictor, source, progress=True)
        about = {
            "step": predictor.step,
            "checkpoint": predictor.checkpoint,
            "data": fingerprint_of(source),
            "views": predictor.views._asdict(),
            "recipe": json.loads(predictor.recipe.to_json()),
        }
        write_result(result, source, folder, about)
        title = f"LGA R-CNN, {workdir}, step {predictor.step:,}"
        write_report(result, source, workdir=log, output=results, title=title)
    say(format_result(result))
    say(f"\nwritten: {output}/{folder.name}, {output}/report.html")


if __name__ == "__main__":
    main()
