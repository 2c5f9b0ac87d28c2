"""eval.py as a user calls it, on the checkpoint of a tiny detector that has learned nothing."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from ml_collections import ConfigDict

from lga_jax.commands import eval as eval_command
from lga_jax.data import source as source_module
from lga_jax.data.source import open_source
from lga_jax.evaluation import evaluate as evaluate_module
from lga_jax.inference import predictor as predictor_module
from lga_jax.inference.views import Views
from lga_jax.report import evaluation_page, tables
from lga_jax.stores.store import Store
from tests.commands.calling import run_command
from tests.stores.memory import URL, bucket, names  # noqa: F401  (a fixture)


def test_eval_prints_tables_and_writes_json_and_a_report(tiny_run, tiny_predictor, tmp_path):
    args = ("--config", "tiny.py", "--output", tmp_path / "scores")  # the workdir is runs/tiny
    done = run_command(eval_command, *args, folder=tiny_run)
    assert done.status == 0, done.stderr
    assert done.stdout.startswith("step 7, the latest, none has a score\n")
    for words in ("5 images", "AP_small", "AP per class", "tipper", "AP per challenge", "Attention: "):
        assert words in done.stdout
    assert {path.name for path in (tiny_run / "runs" / "tiny").iterdir()} == {"checkpoints"}
    assert {path.name for path in (tmp_path / "scores").iterdir()} == {"eval_7", "report.html"}
    detections = json.loads((tmp_path / "scores" / "eval_7" / "detections.json").read_text())
    assert detections and {len(detection["mask_centres"]) for detection in detections} == {4}
    metrics = json.loads((tmp_path / "scores" / "eval_7" / "metrics.json").read_text())
    assert (metrics["num_images"], metrics["step"], metrics["checkpoint"]) == (5, 7, tiny_predictor.checkpoint)
    assert metrics["recipe"]["batch_size"] == 2 and metrics["analysis"]["confusion"]["matrix"]
    _check_same_as_predictor(detections, tiny_predictor)


def _check_same_as_predictor(detections, predictor):
    source = open_source(**predictor.recipe.data.eval)
    found = predictor.predict([source.image(i) for i in range(len(source.records))], score_threshold=0.01)
    flat = [(record.image_id, d) for record, some in zip(source.records, found, strict=True) for d in some]
    assert [(d["image_id"], d["category_id"]) for d in detections] == [(i, d.category_id) for i, d in flat]
    boxes = [(x, y, x + width, y + height) for x, y, width, height in (d["bbox"] for d in detections)]
    np.testing.assert_allclose([d.box for _, d in flat], boxes, atol=1e-3)


def test_eval_refuses_another_model_and_writes_nothing(tiny_run, tmp_path):
    args = ("--config", "tiny.py", "--workdir", "runs/tiny", "--output", tmp_path / "scores")
    done = run_command(eval_command, *args, "--config.model.attention=none", folder=tiny_run)
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr.startswith("error: runs/tiny, step 7: ") and done.stderr.count("\n") == 1
    assert "model.attention 'lga' in the checkpoint, 'none' in the recipe" in done.stderr
    assert not (tmp_path / "scores").exists()


def test_eval_refuses_other_classes_and_a_place_that_cannot_be_written_before_it_works(tiny_run, tmp_path):
    (tmp_path / "images").mkdir()
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "car"}]}
    content["images"].append({"id": 1, "file_name": "a.png", "height": 30, "width": 40})
    content["annotations"].append({"image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 20]})
    (tmp_path / "a.json").write_text(json.dumps(content))
    (tmp_path / "images" / "a.png").write_bytes(b"never read")
    recipe = (tiny_run / "tiny.py").read_text()
    data = dict(source="coco_json", root=str(tmp_path), annotations="a.json", images="images", skip_empty=False)
    (tmp_path / "cars.py").write_text(
        recipe.replace("    return config", f"    config.data.eval = {data}\n    return config")
    )
    args = ("--workdir", tiny_run / "runs" / "tiny")
    done = run_command(eval_command, "--config", "cars.py", *args, "--output", tmp_path / "scores", folder=tmp_path)
    assert done.status == 2 and "step 7" in done.stderr and "car" in done.stderr
    assert not (tmp_path / "scores").exists()
    (tmp_path / "file").write_text("mine")
    done = run_command(eval_command, "--config", "tiny.py", *args, "--output", tmp_path / "file", folder=tiny_run)
    assert done.status == 2 and done.stderr.startswith(f"error: {tmp_path / 'file'}")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_in_a_bucket_gets_its_results_there(bucket, tmp_path, monkeypatch, capsys):  # noqa: F811
    """Only what reads the checkpoint and computes is replaced."""
    monkeypatch.chdir(tmp_path)
    Store(URL).write("metrics.jsonl", b"{}")
    recipe = ConfigDict({"batch_size": 2})
    found = SimpleNamespace(title="step 7", step=7, checkpoint="digest", views=Views(), recipe=recipe)
    monkeypatch.setattr(predictor_module, "load", lambda *args, **options: found)
    monkeypatch.setattr(evaluate_module, "open_data", lambda predictor: "source")
    monkeypatch.setattr(evaluate_module, "evaluate", lambda *args, **options: "result")
    monkeypatch.setattr(source_module, "fingerprint_of", lambda source: "data")
    monkeypatch.setattr(tables, "format_result", lambda result: "AP")
    monkeypatch.setattr(tables, "write_result", lambda result, source, folder, about: _write(folder / "metrics.json"))

    def write_report(result, source, *, workdir, output, title):
        assert Path(workdir, "metrics.jsonl").read_bytes() == b"{}"
        _write(Path(output, "report.html"))

    monkeypatch.setattr(evaluation_page, "write_report", write_report)
    eval_command._score(recipe, URL, URL, "best", {})
    assert names(bucket) == ["eval_7/metrics.json", "metrics.jsonl", "report.html"]
    assert f"written: {URL}/eval_7, {URL}/report.html" in capsys.readouterr().out
    eval_command._score(recipe, URL, "local", "best", {})
    assert sorted(path.name for path in (tmp_path / "local").iterdir()) == ["eval_7", "report.html"]


def _write(path):
    path.write_text("{}")
