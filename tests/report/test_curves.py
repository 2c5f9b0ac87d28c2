"""Curves of a run from its metrics.jsonl."""

import json

import cv2
import numpy as np

from lga_jax.report.curves import draw_curves, read_metrics, smooth

LOSSES = [{"step": 10 * i, "total": 2.0 / i, "rpn_box": 0.1, "lr": 0.01} for i in range(1, 9)]
SCORES = [{"step": 40, "eval": {"AP": 0.2, "AP50": 0.4}}, {"step": 80, "eval": {"AP": None, "AP50": 0.6}}]


def test_metrics_are_read_up_to_an_unfinished_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(map(json.dumps, LOSSES[:2])) + '\n{"step": 30, "tot')
    assert read_metrics(path) == LOSSES[:2]
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_smoothing_is_a_mean_of_neighbours_and_keeps_constants():
    np.testing.assert_allclose(smooth(np.array([1.0, 2.0, 6.0, 3.0]), 2), [1.5, 3.0, 11 / 3, 4.5])
    np.testing.assert_allclose(smooth(np.full(5, 3.0), 9), 3.0)
    np.testing.assert_allclose(smooth(np.arange(4.0), 0), np.arange(4.0))


def test_one_panel_for_losses_and_one_for_scores():
    images = [
        cv2.imdecode(np.frombuffer(draw_curves(lines), np.uint8), 1) for lines in (LOSSES, SCORES, LOSSES + SCORES)
    ]
    assert all(image.shape == images[0].shape and image.std() > 5 for image in images)
    assert draw_curves([]) is None
