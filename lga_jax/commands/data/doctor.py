"""Checks the data of a recipe: lists faults of annotations and images with severity and remedy.

    lga_jax doctor --config configs/coco_json.py --output runs/mine/doctor

Prints a table. --output also writes DIR/doctor.html with example images of each fault, and DIR/doctor.json with all
cases. --quick reads only the annotations. The exit status is 1 if training would stop or lose an image (errors), 2 if
no data set can be opened, 0 with warnings and notes only. The data are not changed.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags
from ml_collections import ConfigDict

from lga_jax.command_line import parsing
from lga_jax.files import make_folder, write_atomically, write_json
from lga_jax.terminal import say

if TYPE_CHECKING:
    from lga_jax.data.doctor.examine import Report


def examine_config(config: ConfigDict, title: str, output: str | None, quick: bool) -> "Report":
    """Examines data.train and data.eval, writes doctor.html and doctor.json into `output`, prints the findings."""
    # Importing takes seconds; faults of the recipe are reported before.
    from lga_jax.data.doctor.examine import examine
    from lga_jax.report.doctor_page import doctor_html, format_report, report_json

    if output:
        make_folder(output)
    report = examine(config.data, quick, object_masks=config.model.mask_head.enabled)
    written = []
    if output:
        page, facts = Path(output, "doctor.html"), Path(output, "doctor.json")
        write_atomically(page, doctor_html(title, report).encode())
        write_json(facts, report_json(report), indent=2)
        written = [f"written: {page}, {facts}"]
    say("\n".join([format_report(report), *written]))
    return report


def main() -> None:
    """Reads the flags and examines."""
    config = parsing.define_config()
    output = parsing.define_path("output", "Folder for doctor.html and doctor.json.")
    quick = flags.DEFINE_bool("quick", False, "Read annotations only, no images.")

    def run() -> None:
        import cv2

        # Messages of its decoders would break the progress bar.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        title = f"Data of {config.name}"
        report = examine_config(config.value, title, output.value, quick.value)
        sys.exit(any(finding.severity == "error" for finding in report.findings()))

    parsing.run(run, config)


if __name__ == "__main__":
    main()
