"""Looks over the data of a recipe: what is wrong with annotations and images, how grave it is, and what helps.

    lga_jax doctor --config configs/coco_json.py --output runs/mine/doctor

Prints a table; with --output also writes DIR/doctor.html, a page with the images that have most faults, and
DIR/doctor.json with everything by name. --quick reads the annotations only. Exit status 1 if training would stop or
lose an image (errors), 2 if no set can be opened, 0 with warnings and notes only. Nothing of the data is changed.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags
from ml_collections import ConfigDict

from lga_jax.commands import command_line
from lga_jax.files import make_folder, write_atomically, write_json

if TYPE_CHECKING:
    from lga_jax.data.doctor.examine import Report


def examine_config(config: ConfigDict, title: str, output: str | None, quick: bool) -> "Report":
    """Examines data.train and data.eval, prints what was found and writes doctor.html and doctor.json into `output`."""
    # Takes seconds; faults of the recipe are told before.
    from lga_jax.data.doctor.examine import examine
    from lga_jax.report.doctor_page import doctor_html, format_report, report_json

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
    config = command_line.define_config()
    output = command_line.define_path("output", "Folder for doctor.html and doctor.json.")
    quick = flags.DEFINE_bool("quick", False, "Read annotations only, no images.")

    def run() -> None:
        import cv2

        # What its decoders have to say of a file would stand within the progress bar.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        title = f"Data of {config.name}"
        report = examine_config(config.value, title, output.value, quick.value)
        sys.exit(any(finding.severity == "error" for finding in report.findings()))

    command_line.run(run, config)


if __name__ == "__main__":
    main()
