"""Looks over the data of a recipe: what is wrong with annotations and images, how grave it is, and what helps.

    python -m lga_jax.commands.doctor --config configs/coco_json.py --output runs/mine/doctor

Prints a table; with --output also writes DIR/doctor.html, a page with the images that have most faults, and
DIR/doctor.json with everything by name. --quick reads the annotations only. Exit status 1 if training would stop or
lose an image (errors), 2 if no set can be opened, 0 with warnings and notes only. Nothing of the data is changed.
"""

import sys
from pathlib import Path

import cv2
from absl import flags
from ml_collections import ConfigDict, config_flags

from lga_jax.commands import command_line
from lga_jax.data.doctor.examine import Report, examine
from lga_jax.files import make_folder, write_atomically, write_json
from lga_jax.report.doctor_page import doctor_html, format_report, report_json


def examine_config(config: ConfigDict, title: str, output: str | None, quick: bool) -> Report:
    """Examines data.train and data.eval, prints what was found and writes doctor.html and doctor.json into `output`."""
    if output:
        make_folder(output)
    report = examine(config.data, quick)
    print(format_report(report))
    if output:
        page, facts = Path(output, "doctor.html"), Path(output, "doctor.json")
        write_atomically(page, doctor_html(title, report).encode())
        write_json(facts, report_json(report), indent=2)
        print(f"written: {page}, {facts}")
    return report


def main() -> None:
    """Reads the flags and examines."""
    config = config_flags.DEFINE_config_file("config", None, "Recipe, such as configs/coco_json.py.", lock_config=True)
    output = flags.DEFINE_string("output", None, "Folder for doctor.html and doctor.json.")
    quick = flags.DEFINE_bool("quick", False, "Read annotations only, no images.")
    flags.mark_flag_as_required("config")

    def run() -> None:
        # What its decoders have to say of a file would stand within the progress bar.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        title = f"Data of {command_line.recipe_path()}"
        report = examine_config(config.value, title, output.value, quick.value)
        sys.exit(any(finding.severity == "error" for finding in report.findings()))

    command_line.run(run)


if __name__ == "__main__":
    main()
