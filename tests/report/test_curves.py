"""Curves of a run from its metrics.jsonl."""

import json

import numpy as np
import pytest

from lga_jax.report.curves import (
    loss_curves,
    read_metrics,
    score_curves,
    smooth,
    training_plots,
    validation_curves,
)

LOSSES = [{"step": 10 * i, "total": 2.0 / i, "rpn_box": 0.1, "lr": 0.01, "grad_norm": 3.0} for i in range(1, 9)]
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


def test_plots_for_what_was_logged():
    titles = {
        "training loss": LOSSES,
        "AP of the evaluations": SCORES,
        "learning rate": LOSSES,
        "gradient norm, before clipping": LOSSES,
    }
    html = training_plots(LOSSES + SCORES)
    assert [title in plot for title, plot in zip(titles, html, strict=True)] == [True] * 4
    assert len(training_plots([{"step": 1, "total": 1.0}])) == len(training_plots(SCORES)) == 1
    assert training_plots([]) == []


def test_only_many_losses_are_smoothed_and_the_note_says_so():
    many = [line | {"step": step} for step, line in enumerate(20 * LOSSES, start=1)]
    few, smoothed = (loss_curves(lines)[0] for lines in (LOSSES, many))
    assert few.faint is None and few.strong
    assert len(smoothed.faint) == len(many)
    assert ["Faint" in training_plots(lines)[0] for lines in (LOSSES, many)] == [False, True]


def test_scores_are_drawn_at_their_steps_and_a_missing_one_leaves_a_gap():
    ap, ap50 = score_curves([*SCORES, {"step": 120, "eval": {"AP": 0.3, "AP50": 0.7}}])
    assert (ap.name, ap50.name) == ("AP 0.300", "AP50 0.700")
    np.testing.assert_array_equal((ap.x, ap.y), [[40, 80, 120], [0.2, np.nan, 0.3]])
    np.testing.assert_array_equal((ap50.x, ap50.y), [[40, 80, 120], [0.4, 0.6, 0.7]])


def test_scores_without_the_moving_average_are_a_third_curve():
    raw = [SCORES[0], SCORES[1] | {"eval_raw": {"AP": 0.1, "AP50": 0.3}}]
    *_, curve = score_curves(raw)
    assert len(score_curves(raw)) == 3 and curve.name.startswith("AP 0.100")
    np.testing.assert_array_equal((curve.x, curve.y), [[40, 80], [np.nan, 0.1]])


def test_losses_are_drawn_as_logged_and_smoothed_over_a_sixtieth_of_their_points():
    values = np.random.default_rng(0).random(240)
    total, rpn_box = loss_curves([{"step": 5 * i, "total": v, "rpn_box": 2 * v} for i, v in enumerate(values.tolist())])
    assert (total.name, rpn_box.name) == ("total", "rpn_box")
    np.testing.assert_array_equal((total.x, total.faint), [5 * np.arange(240), values])
    np.testing.assert_allclose(total.y, smooth(values, 4))
    np.testing.assert_allclose(rpn_box.y, smooth(2 * values, 4))
    assert total.y[100] == values[98:103].mean()
    assert total.y.std() < 0.6 * values.std()


def test_losses_of_evaluations_are_drawn_beside_those_of_training():
    (curve,) = validation_curves([{"step": 5, "losses": {"total": 2.0}}, {"step": 9, "losses": {"total": None}}])
    np.testing.assert_array_equal((curve.x, curve.y), [[5, 9], [2.0, np.nan]])
    validated = [score | {"losses": {"total": 1.0}} for score in SCORES]
    assert curve.name in training_plots(LOSSES + validated)[0] and curve.name not in training_plots(LOSSES + SCORES)[0]


@pytest.mark.parametrize(
    "damaged",
    [
        b"\xff\xfe",
        b"7",
        b"[]",
        b"{}",
        b'{"step": "2", "total": 1}',
        b'{"step": null}',
        b'{"step": 1' + b"0" * 400 + b"}",
        b'{"step": 2, "eval": 1}',
        b'{"step": 2, "eval": {}, "losses": [1]}',
        b"[" * 10**5,
    ],
)
def test_a_damaged_line_is_left_out_and_the_others_are_drawn(tmp_path, damaged):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "total": 2.0}\n' + damaged + b'\n{"step": 3, "total": 1.0}\n')
    assert [line["step"] for line in read_metrics(path)] == [1, 3]


def test_values_that_are_no_numbers_are_gaps():
    lines = [
        {"step": 1, "total": "high", "lr": None, "grad_norm": [1]},
        {"step": 2, "total": 10**400, "lr": 1, "grad_norm": 2.0},
        {"step": 3, "eval": {"AP": "good"}, "losses": {"total": {}}},
    ]
    assert len(training_plots(lines)) == 4
