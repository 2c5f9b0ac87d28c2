"""Runs of MLflow in a folder (its file store), read back with its client."""

import json
import signal

import cv2
import numpy as np
import pytest

pytest.importorskip("mlflow", reason="needs mlflow: pip install 'lga_jax[mlflow]'")

from mlflow.tracking import MlflowClient

from lga_jax.recipe import flatten
from lga_jax.training.run import train
from lga_jax.training.trackers.mlflow_run import MlflowRun, metric_name
from tests.faults import refused
from tests.training.stubs import install, signal_at_step, stub_config


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlflow")
    return MlflowClient()


def test_a_run_that_was_stopped_and_resumed_is_one_run_with_the_numbers_of_metrics_jsonl(tmp_path, monkeypatch, client):
    recipe, workdir = stub_config(tracker="mlflow"), tmp_path / "run"
    install(monkeypatch, before_step=signal_at_step(signal.SIGINT, 4))
    train(recipe, workdir)
    install(monkeypatch)
    train(recipe, workdir)
    (run,) = client.search_runs([client.get_experiment_by_name("lga_jax").experiment_id])
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params.keys() == flatten(recipe).keys()
    assert (run.data.params["optim.lr"], run.data.params["model.attention"]) == ("0.1", "lga")
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for name, section in (("total", "train"), ("lr", "train"), ("grad_norm", "train")):
        found = [(value.step, value.value) for value in client.get_metric_history(run.info.run_id, f"{section}/{name}")]
        assert dict(found) == {line["step"]: line[name] for line in lines if name in line}
    scores = client.get_metric_history(run.info.run_id, "eval/AP")
    assert {value.step: value.value for value in scores} == {
        line["step"]: line["eval"]["AP"] for line in lines if "eval" in line
    }


def test_names_and_pictures_and_a_failure(tmp_path, client):
    run = MlflowRun(stub_config(), tmp_path, None)
    names = ("car (red)", "car [red]", "犬", "a/../b", "v1.5")
    run.add(3, {f"eval_per_class/{name}": float(place) for place, name in enumerate(names)})
    jpeg = cv2.imencode(".jpg", np.zeros((30, 40, 3), np.uint8))[1].tobytes()
    run.add_images(3, {"samples/sample_0": jpeg})
    run.close(failed=True)
    stored = client.get_run(run.id)
    assert stored.info.status == "FAILED"
    assert sorted(stored.data.metrics.values()) == [0, 1, 2, 3, 4]  # five different names
    assert stored.data.metrics["eval_per_class/犬"] == 2
    names = [file.path for file in client.list_artifacts(run.id, "images")]
    assert any("sample_0+step+3" in name and name.endswith(".png") for name in names)


def test_the_part_before_the_slash_stays():
    assert metric_name("train/rpn_box") == "train/rpn_box"
    assert metric_name("eval_per_class/a.b/c") == "eval_per_class/a_2e_b_2f_c"


def test_a_place_that_mlflow_refuses_is_one_line(tmp_path, monkeypatch, client):
    install(monkeypatch)
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/another")  # MLflow remembers a place that it opened
    with refused("tracker mlflow", "filesystem tracking backend"):
        train(stub_config(tracker="mlflow"), tmp_path / "run")
