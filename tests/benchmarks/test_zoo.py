"""Downloads, resuming and the table of the benchmark; the commands themselves are replaced."""

import hashlib
import json
import subprocess

import pytest

from benchmarks import zoo
from lga_jax.weights.zoo import DETECTORS


@pytest.fixture
def detector(tmp_path):
    """A file at a file:// address."""
    source = tmp_path / "there" / "model_final_x.pkl"
    source.parent.mkdir()
    source.write_bytes(b"weights")
    digest = f"md5:{hashlib.md5(b'weights').hexdigest()[:6]}"
    return DETECTORS["detectron2-r50-1x"]._replace(address=source.as_uri(), digest=digest)


def test_a_download_is_checked_and_not_repeated(detector, tmp_path):
    zoo.download(detector, tmp_path)
    assert (tmp_path / detector.file).read_bytes() == b"weights"
    zoo.download(detector._replace(address=f"file:///missing/{detector.file}"), tmp_path)
    with pytest.raises(ValueError, match="md5"):
        zoo.download(detector._replace(digest="md5:000000"), tmp_path)


def test_too_large_a_download_is_given_up(detector, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "_LIMIT", 3)
    with pytest.raises(ValueError, match="more than 3 bytes"):
        zoo.download(detector, tmp_path)
    assert not (tmp_path / detector.file).exists()


def test_results_are_kept_and_failures_do_not_end_the_list(detector, tmp_path, monkeypatch):
    broken = detector._replace(address="file:///missing/x.pkl")
    monkeypatch.setattr(zoo, "DETECTORS", {"broken": broken, "good": detector})
    calls = []

    def run(command, **_):
        calls.append(command)
        if "eval" in command:
            folder = tmp_path / "out" / "good" / "eval_0"
            folder.mkdir(parents=True)
            (folder / "metrics.json").write_text(json.dumps({"summary": {"AP": 0.3791, "AP50": 0.58, "AP75": 0.4}}))

    monkeypatch.setattr(subprocess, "run", run)
    assert zoo.run_all(["broken", "good"], "data/coco", tmp_path / "out") == ["broken"]
    assert len(calls) == 2 and "--config.data.eval.root=data/coco" in calls[1]
    assert zoo.run_all(["good"], "data/coco", tmp_path / "out") == [] and len(calls) == 2
    lines = zoo.table(zoo.read_results(tmp_path / "out")).splitlines()
    assert lines[2].endswith("| 37.9 | - | - | - |") and lines[3].endswith("| 37.9 | 37.9 | 58.0 | 40.0 |")
