"""metrics.jsonl, and when a run counts as diverged."""

import json
import math

import jax.numpy as jnp
import pytest

from lga_jax.training.metrics import MetricsLog, TrainingDivergedError


def _log(workdir, start=0, log_every=2, trackers=()):
    return MetricsLog(str(workdir), start, log_every, 4, lambda step: 0.1 * step, trackers)


def _values(total):
    return {"total": jnp.float32(total), "grad_norm": jnp.float32(1.5)}


def _lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_lines_of_a_run(tmp_path):
    with _log(tmp_path) as log:
        for step in range(1, 5):
            log.push(step, _values(step))
        log.flush()
        log.evaluated(4, {"AP": 0.25, "AP_large": math.nan}, {"car": 0.5, "bus": math.nan})
        assert log.evaluations == {4: 0.25}
    assert _lines(tmp_path) == [
        {"step": 2, "grad_norm": 1.5, "total": 2.0, "lr": pytest.approx(0.1)},
        {"step": 4, "grad_norm": 1.5, "total": 4.0, "lr": pytest.approx(0.3)},
        {"step": 4, "eval": {"AP": 0.25, "AP_large": None}, "per_class": {"car": 0.5, "bus": None}},
    ]


def test_a_step_is_read_when_the_next_is_on_its_way(tmp_path):
    with _log(tmp_path) as log:
        log.push(1, _values(1))
        assert log.latest == {}
        log.push(2, _values(math.nan))
        assert log.latest["total"] == 1.0
        with pytest.raises(TrainingDivergedError) as caught:
            log.push(3, _values(3))
        assert (caught.value.subject, caught.value.found) == ("step 2", "grad_norm 1.5, total nan")


def test_flush_reads_what_is_pending(tmp_path):
    with _log(tmp_path) as log:
        log.push(1, {"total": jnp.float32(1), "grad_norm": jnp.float32(math.inf)})
        with pytest.raises(TrainingDivergedError, match="grad_norm inf"):
            log.flush()


def test_parameters_are_checked_before_they_are_saved(tmp_path):
    with _log(tmp_path) as log:
        log.check_state(1, {"a": jnp.ones(3), "count": jnp.int32(2)})
        with pytest.raises(TrainingDivergedError, match=r"^step 1: "):
            log.check_state(1, {"a": jnp.array([1.0, jnp.inf])})


def test_resuming_cuts_what_comes_after_and_half_a_line(tmp_path):
    with _log(tmp_path, log_every=1) as log:
        for step in range(1, 6):
            log.push(step, _values(step))
        log.evaluated(3, {"AP": math.nan}, {})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 3, "tot')
    with _log(tmp_path, start=3) as log:
        assert math.isnan(log.evaluations[3])
    assert [line["step"] for line in _lines(tmp_path)] == [1, 2, 3, 3]
    with _log(tmp_path, start=0):
        pass
    assert _lines(tmp_path) == []
