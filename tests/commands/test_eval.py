"""eval.py as a user calls it, on the checkpoint of a tiny detector that has learned nothing."""

import json

from tests.tiny_run import call


def test_eval_prints_tables_and_writes_json_and_a_report(tiny_run, tmp_path):
    args = ("--config", "tiny.py", "--output", tmp_path / "scores")
    result = call(tiny_run, "eval.py", *args, devices=3)  # batch_size is 2; the workdir is runs/tiny
    assert result.returncode == 0, result.stderr
    for words in ("5 images", "AP_small", "AP per class", "tipper", "AP per challenge", "Attention: "):
        assert words in result.stdout
    assert {path.name for path in (tiny_run / "runs" / "tiny").iterdir()} == {"checkpoints"}
    assert {path.name for path in (tmp_path / "scores").iterdir()} == {"eval_7", "report.html"}
    detections = json.loads((tmp_path / "scores" / "eval_7" / "detections.json").read_text())
    assert detections and {len(detection["mask_centres"]) for detection in detections} == {4}
    assert json.loads((tmp_path / "scores" / "eval_7" / "metrics.json").read_text())["num_images"] == 5


def test_eval_refuses_another_model(tiny_run):
    base = ("--config", "tiny.py", "--workdir", "runs/tiny")
    result = call(tiny_run, "eval.py", *base, "--config.model.attention=none")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: runs/tiny, step 7")
    assert "model.attention 'lga' there, 'none' here" in result.stderr
