"""Curves of a run from its metrics.jsonl."""

import json

import cv2
import numpy as np

from lga_jax.report.curves import curves_figure, draw_curves, read_metrics, smooth

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


def lines_of(metrics):
    """The lines of the figure's panels: label -> (steps, values); the faint ones are '_total', ...."""
    lines = {}
    for panel in curves_figure(metrics).axes:
        faint = [line for line in panel.get_lines() if line.get_label().startswith("_")]
        strong = [line for line in panel.get_lines() if not line.get_label().startswith("_")]
        lines |= {line.get_label(): line.get_data() for line in strong}
        names = [line.get_label() for line in strong] if faint else []
        lines |= {f"_{name}": line.get_data() for name, line in zip(names, faint, strict=bool(faint))}
    return lines


def test_scores_are_drawn_at_their_steps_and_a_missing_one_leaves_a_gap():
    scores = [*SCORES, {"step": 120, "eval": {"AP": 0.3, "AP50": 0.7}}]
    lines = lines_of(scores)
    assert list(lines) == ["AP50 0.700", "AP 0.300"]
    np.testing.assert_array_equal(lines["AP50 0.700"], [[40, 80, 120], [0.4, 0.6, 0.7]])
    np.testing.assert_array_equal(lines["AP 0.300"], [[40, 80, 120], [0.2, np.nan, 0.3]])


def test_losses_are_drawn_as_logged_and_smoothed_over_a_sixtieth_of_their_points():
    rng = np.random.default_rng(0)
    values = rng.random(240)
    lines = lines_of([{"step": 5 * i, "total": v, "rpn_box": 2 * v} for i, v in enumerate(values.tolist())])
    assert sorted(lines) == ["_rpn_box", "_total", "rpn_box", "total"]
    np.testing.assert_array_equal(lines["_total"], [5 * np.arange(240), values])
    np.testing.assert_allclose(lines["total"][1], smooth(values, 4))
    np.testing.assert_allclose(lines["rpn_box"][1], smooth(2 * values, 4))
    assert lines["total"][1][100] == values[98:103].mean()
    assert lines["total"][1].std() < 0.6 * values.std()
