"""predict.py as a user calls it, on the checkpoint of a tiny detector that has learned nothing."""

import json

import cv2
import numpy as np

from tests.tiny_run import call


def test_predict_needs_the_workdir_only(tiny_run, tmp_path):
    (tmp_path / "photos").mkdir()
    for name, hw in (("tall.png", (120, 70)), ("wide.jpg", (50, 90))):
        cv2.imwrite(str(tmp_path / "photos" / name), np.random.default_rng(0).integers(0, 255, (*hw, 3), np.uint8))
    (tmp_path / "photos" / "broken.png").write_bytes(b"no image")
    args = (
        "--workdir",
        "runs/tiny",
        "--input",
        tmp_path / "photos",
        "--output",
        tmp_path / "found",
        "--score_threshold",
        "0.0",
    )
    result = call(tiny_run, "predict.py", *args)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("error: --input: expected images, found 1 of 3 files")
    assert "objects in 2 images" in result.stdout
    assert {path.name for path in (tmp_path / "found").iterdir()} == {"detections.json", "tall.png", "wide.jpg"}
    results = json.loads((tmp_path / "found" / "detections.json").read_text())
    assert {result["file_name"] for result in results} == {"tall.png", "wide.jpg"}
