"""The study as people start it, on settings that train nothing; and the numbers of its report."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lga_jax.checkpoints.read import restore_params
from studies.attention import measure, report
from studies.attention import study as study_module
from studies.attention.comparison import differences, latest
from studies.attention.report import attention_table, challenge_table, class_table, main_table
from studies.attention.study import Job, Places, plan
from studies.attention.workdir import key_of, read_measures, read_runs
from tests.studies.attention.tiny import MODEL

ROOT = Path(__file__).parents[3]
TINY = MODEL | {
    "num_steps": 2,
    "batch_size": 2,
    "data.train.num_images": 6,
    "data.eval.num_images": 4,
    "optim.warmup_steps": 1,
    "inference.score_threshold": 0.0,
}


def study(workdir, *flags, environment=None):
    settings = [f"--set={key}={json.dumps(value)}" for key, value in TINY.items()]
    return subprocess.run(
        [sys.executable, "-m", "studies.attention.study", f"--workdir={workdir}", *settings, *flags],
        cwd=ROOT,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_run_is_a_line_and_is_not_repeated(tmp_path):
    first = study(tmp_path, "--rows=lga", "--seeds=0", "--processes=1")
    assert first.returncode == 0, first.stdout + first.stderr
    (run,) = read_runs(tmp_path)
    assert (run["data"], run["row"], run["seed"]) == ("challenge", "lga", 0)
    assert [entry["step"] for entry in run["trace"]] == [0, 2]
    assert np.array(run["trace"][0]["centres"]).shape == (4, 2)
    assert run["trace"][0]["spread"] > 1.5
    assert restore_params(str(tmp_path / "runs" / "challenge_lga_0")).step == 2
    assert {"challenge", "severity", "num_images", "ap"} == set(run["challenges"][0])
    assert run["config"]["num_steps"] == 2
    assert "1 runs, 1 of them done" in study(tmp_path, "--rows=lga", "--seeds=0").stdout
    flags = [f"--workdir={tmp_path}", "--data=challenge"]
    subprocess.run([sys.executable, "-m", "studies.attention.measure", *flags], cwd=ROOT, check=True)
    measure.main(flags)  # the second time there is nothing to measure
    (measured,) = read_measures(tmp_path)
    assert measured["AP"] == run["AP"] and key_of(measured) == key_of(run)
    assert len(measured["masks"]["worth"]) == 4 and set(measured["slices"]) == {"occlusion", "size", "pair"}


def test_a_run_that_fails_is_named_and_stops_no_other(tmp_path, monkeypatch):
    def command(job, places, overrides):
        end = "raise ValueError('too odd')" if job.seed % 2 else "print('AP 0.5')"
        return [sys.executable, "-c", end]

    monkeypatch.setattr(study_module, "command", command)
    jobs = [Job("challenge", "lga", seed, "digest", 2) for seed in range(4)]
    failures = study_module.work(jobs, sorted(os.sched_getaffinity(0))[:1], Places(tmp_path, "", ""), {})
    assert [line.split(";")[0] for line in failures] == [
        f"challenge_lga_{seed}: failed (1): ValueError: too odd" for seed in (1, 3)
    ]
    assert (tmp_path / "logs" / "challenge_lga_2.log").read_text() == "AP 0.5\n"


def test_what_is_misspelt_is_named(tmp_path):
    found = study(tmp_path, "--rows=nonne")
    assert found.returncode == 2
    assert "--rows: expected some of none, " in found.stderr
    assert "found nonne" in found.stderr


def test_seeds_are_the_outer_loop():
    jobs = plan(["challenge"], ["none", "lga"], [0, 1], Places(Path(), "", ""), {})
    assert [(job.row, job.seed) for job in jobs] == [("none", 0), ("lga", 0), ("none", 1), ("lga", 1)]


def line(row, seed, ap, **changes):
    attention = {
        "hit_rate": 0.5,
        "hit_rate_elsewhere": 0.3,
        "chance": 0.4,
        "hit_rate_per_mask": [0.2, 0.4],
        "hit_rate_elsewhere_per_mask": [0.35, 0.25],
        "chance_per_mask": 0.1,
        "spread": 1.5,
        "moves": [0.5, 0.7],
        "hit_rate_per_class": {"blade": 0.25},
    }
    run = {
        "data": "challenge",
        "row": row,
        "seed": seed,
        "digest": "d",
        "AP": ap,
        "AP50": ap + 0.2,
        "challenges": [
            {"challenge": "plain", "severity": 0, "num_images": 3, "ap": ap + 0.1},
            {"challenge": "motion_blur", "severity": 1, "num_images": 3, "ap": ap - 0.1},
            {"challenge": "motion_blur", "severity": 2, "num_images": 3, "ap": 0.2},
        ],
        "attention": None if row == "none" else attention,
        "images_per_cpu_second": 40.0,
        "versions": {"code": "abcdef012345"},
        "trace": []
        if row == "none"
        else [{"step": step, "centres": [[2, 2], [5, 5 - step]], "sigmas": [[1, 1], [1.5, 1]]} for step in (0, 1)],
    }
    return run | changes


def lines():
    return [
        line("none", 0, 0.50),
        line("none", 1, 0.52, versions={"code": "123456789abc"}),
        line("lga", 0, 0.53),
        line("lga", 1, 0.53),
        line("cbam", 0, 0.51, attention=None),
    ]


def write(workdir, runs, tail=""):
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "runs.jsonl").write_text("".join(json.dumps(run) + "\n" for run in runs) + tail)


def test_a_line_that_was_cut_off_is_left_out_and_the_latest_of_a_run_counts(tmp_path):
    write(tmp_path, [line("none", 0, 0.1), line("none", 0, 0.2)], tail='{"data": "chal')
    (run,) = read_runs(tmp_path)
    assert run["AP"] == 0.2
    write(tmp_path, [line("none", 0, 0.1), line("none", 0, 0.2, digest="e"), line("none", 0, 0.3)])
    assert latest(read_runs(tmp_path), "challenge")["none"][0]["AP"] == 0.3


def test_differences_by_hand():
    found = differences(latest(lines(), "challenge"), lambda run: run["AP"])
    assert set(found) == {"lga", "cbam"}
    np.testing.assert_allclose(found["lga"].each, [0.03, 0.01])
    assert found["lga"].mean == pytest.approx(0.02)
    # Two seeds: t(1) = 12.706, standard deviation of (.03, .01) is .01414.
    assert found["lga"].paired == pytest.approx(12.706 * 0.014142 / math.sqrt(2), rel=1e-3)
    assert math.isnan(found["cbam"].paired)
    # Of none and lga, which have both seeds, rows and seeds leave +-.005, one degree of freedom; of cbam nothing.
    assert found["lga"].pooled == pytest.approx(12.706 * 0.01 * math.sqrt(2 / 2), rel=1e-3)


def test_tables_have_the_numbers():
    runs = latest(lines(), "challenge")
    assert "| `none` | no attention | 2 | 0.5100 (0.0141) |" in main_table(runs)
    # lga against none by seed: .03, .01; against cbam, which has one seed: .02.
    assert "| +0.0200 | -0.1071 to +0.1471 | 40.0 | abcdef, 123456 |" in main_table(runs)
    assert "| +0.0200 |  | 40.0 | abcdef |" in main_table(runs)
    assert (
        "| `lga` | 0.500 (0.000) | 0.300 | 0.400 | 0.400 (0.000) | 0.250 | 0.100 | 0.300 | 1.50 (0.00) | 0.60 |"
        in attention_table(runs)
    )
    assert "| row | plain | motion blur |" in challenge_table(runs, by_severity=False)
    assert "| `none` | 0.610 | 0.305 |" in challenge_table(runs, by_severity=False)
    assert "| `lga` | +0.020 ± 0.127 | +0.010 ± 0.064 |" in challenge_table(runs, by_severity=False)
    assert "| `cbam` | +0.010 | +0.005 |" in challenge_table(runs, by_severity=False)
    assert "| row | plain | motion blur 1 | motion blur 2 |" in challenge_table(runs, by_severity=True)
    assert "| `lga` | +0.020 ± 0.127 | +0.020 ± 0.127 | +0.000 ± 0.000 |" in challenge_table(runs, by_severity=True)
    assert "| `lga` | 0.25 |" in class_table(runs)


def test_report_writes_tables_and_plots(tmp_path):
    write(tmp_path / "run", lines())
    done = subprocess.run(
        [
            *(sys.executable, "-m", "studies.attention.report", f"--workdir={tmp_path / 'run'}"),
            *(f"--output={tmp_path / 'plots'}", f"--markdown={tmp_path / 'report.md'}"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.md").read_text().startswith("## challenge\n")
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names == {f"study_challenge_{kind}.png" for kind in ("differences", "hits", "movement")}


def test_a_report_of_no_runs_is_refused_and_overwrites_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "report.md").write_text("earlier")
    arguments = ["report", f"--workdir={tmp_path}", f"--markdown={tmp_path / 'report.md'}"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit, match="2"):
        report.main()
    assert "--workdir: expected finished runs of these seeds, found none in" in capsys.readouterr().err
    assert (tmp_path / "report.md").read_text() == "earlier"


def test_rows_without_masks_have_no_place_in_the_tables_of_masks():
    only = latest([line("none", 0, 0.5)], "challenge")
    assert attention_table(only) == ""
    assert class_table(only) == ""
    assert differences(only, lambda run: run["AP"]) == {}
