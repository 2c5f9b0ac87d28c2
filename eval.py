"""Scores a checkpoint with COCO's metrics: tables on the terminal, JSON and a page of pictures.

    python eval.py --config configs/coco.py --workdir runs/coco

Needs the parameters only, on any number of devices. Writes eval_<step>/{detections,metrics}.json and report.html, a
page with scores, curves and pictures, to --output, by default the workdir. Another score of the same checkpoint, on
other data or with other settings, needs another --output, or it takes the place of the first.
"""

import os

from absl import flags
from ml_collections import config_flags

from lga_jax import errors
from lga_jax.data.records import open_source
from lga_jax.evaluation.score import check_model, score_model
from lga_jax.train.checkpoint import default_workdir, restore_params
from lga_jax.train.manifest import check_classes
from lga_jax.train.step import replicate
from lga_jax.visualization.report import write_report

_CONFIG = config_flags.DEFINE_config_file("config", None, "Recipe, such as configs/coco.py.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; default runs/RECIPE.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder for eval_STEP and report.html; default the workdir.")
_STEP = flags.DEFINE_integer("step", None, "Step of the checkpoint; without it the latest.", lower_bound=0)
flags.mark_flag_as_required("config")


def main() -> None:
    """Restores, checks, scores."""
    config = _CONFIG.value
    workdir = _WORKDIR.value or default_workdir(config_flags.get_config_filename(flags.FLAGS["config"]))
    saved = restore_params(workdir, _STEP.value)
    source = open_source(**config.data.eval)
    where = f"--workdir {workdir}, step {saved.step}"
    check_classes(saved.manifest, source.class_names, where)
    check_model(saved.manifest, config.model, where)
    output = _OUTPUT.value or workdir
    folder = os.path.join(output, f"eval_{saved.step}")
    result = score_model(config, source, replicate(saved.variables), folder)
    title = f"LGA R-CNN, {workdir}, step {saved.step:,}"
    print(f"\nwritten: {folder}, {write_report(result, source, workdir=workdir, output=output, title=title)}")


if __name__ == "__main__":
    errors.run(main)
