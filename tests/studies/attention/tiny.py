"""The detectors of the study's rows, small enough to compile in seconds."""

from lga_jax.models.detector import Detector
from studies.attention.rows import ROWS, resolve
from studies.attention.variants import build_row

MODEL = {
    "model.backbone.width": 8,
    "model.fpn.channels": 16,
    "model.lga.reduced_channels": 8,
    "model.lga.hidden": 16,
    "model.box_head.hidden": 16,
    "model.cbam.reduction": 4,
}


def detector_of(row_name: str) -> Detector:
    row = ROWS[row_name]
    return build_row(resolve("challenge", row, overrides=MODEL), row, num_classes=8)
