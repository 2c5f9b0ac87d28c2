"""Comparisons of evaluations that lie in folders."""

import json

import pytest

from lga_jax.errors import UserError
from lga_jax.evaluation.comparison import compare, differing, read_evaluations
from lga_jax.stores.store import Store
from tests.evaluation.evaluations import write_evaluation
from tests.faults import refused
from tests.stores.memory import URL, bucket  # noqa: F401  (a fixture)


def read(*paths):
    with read_evaluations([str(path) for path in paths]) as evaluations:
        return evaluations


def test_runs_are_compared_with_the_first(tmp_path):
    write_evaluation(tmp_path / "one", keep=0.5)
    write_evaluation(tmp_path / "two", step=9, **{"optim.lr": 0.5})
    evaluations = read(tmp_path / "one", tmp_path / "two")
    found = compare(evaluations, 20)
    one, two = found.runs
    assert (one.step, two.step, found.num_images, found.num_samples) == (7, 9, 5, 20)
    assert two.values["AP"].value == pytest.approx(1.0) and one.values["AP"].value < 0.8
    assert two.differences["AP"].value == pytest.approx(1 - one.values["AP"].value)
    assert set(one.differences["AP"]) == {0.0}
    assert list(found.recipes) == ["optim.lr"] and found.recipes["optim.lr"][1] == 0.5
    assert two.analysis.best.f1 == 1.0


def test_masks_are_compared_if_all_runs_have_them(tmp_path):
    half = write_evaluation(tmp_path / "half", masks=True)
    detections = json.loads((half / "detections.json").read_text())
    for first, second in zip(detections[::2], detections[1::2], strict=False):
        first["segmentation"]["counts"] = second["segmentation"]["counts"]  # the mask of another object
    (half / "detections.json").write_text(json.dumps(detections))
    write_evaluation(tmp_path / "whole", masks=True)
    write_evaluation(tmp_path / "boxes")
    half, whole, boxes = read(*(tmp_path / name for name in ("half", "whole", "boxes")))
    found = compare([half, whole], 20)
    one, two = (run.values for run in found.runs)
    assert one["AP"].value == pytest.approx(1.0) and two["segm/AP"].value == pytest.approx(1.0)
    assert one["segm/AP"].value < 0.8
    assert found.runs[1].differences["segm/AP"].value == pytest.approx(1 - one["segm/AP"].value)
    assert found.runs[0].analysis.best.f1 == 1.0 > found.runs[0].segm_analysis.best.f1
    among_others = compare([half, boxes], 2).runs[0]
    assert "segm/AP" not in among_others.values and among_others.segm_analysis is None


def test_an_eval_folder_itself_can_be_named(tmp_path):
    write_evaluation(tmp_path, step=7)
    folder = write_evaluation(tmp_path, step=8)
    assert read(folder)[0].metrics["step"] == 8
    with pytest.raises(UserError) as raised:
        read(tmp_path)
    assert raised.value.found == "eval_7, eval_8" and "eval_7" in raised.value.remedy


def test_evaluations_in_a_bucket(bucket, tmp_path):  # noqa: F811
    for step, keep in ((7, 0.5), (8, 1.0)):
        folder = write_evaluation(tmp_path, step=step, keep=keep)
        for name in ("metrics.json", "detections.json"):
            Store(URL).upload(folder / name, f"eval_{step}/{name}")
    Store(URL).write("metrics.jsonl", b"{}\n")
    with read_evaluations([f"{URL}/eval_7", f"{URL}/eval_8/"]) as (one, two):
        assert (one.metrics["step"], two.metrics["step"], two.where) == (7, 8, f"{URL}/eval_8")
        assert compare([one, two], 2).runs[1].values["AP"].value == pytest.approx(1.0)
        assert (one.folder.parent / "metrics.jsonl").read_text() == "{}\n"
    assert not one.folder.exists()
    with pytest.raises(UserError) as raised:
        read(URL)
    assert (raised.value.subject, raised.value.found) == (URL, "eval_7, eval_8")
    Store(URL).write("eval_7/detections.json", b"{")
    with pytest.raises(UserError) as raised:
        read(f"{URL}/eval_7")
    assert raised.value.subject == f"{URL}/eval_7/detections.json"


def test_faults_of_the_folders(tmp_path):
    with pytest.raises(UserError) as raised:
        read(tmp_path / "nothing")
    assert raised.value.found == "none" and raised.value.subject == str(tmp_path / "nothing")
    folder = write_evaluation(tmp_path / "run")
    content = json.loads((folder / "metrics.json").read_text())
    for text, found in (("{", "a damaged file"), ("{}", "a file of an earlier version")):
        (folder / "metrics.json").write_text(text)
        with pytest.raises(UserError) as raised:
            read(folder)
        assert raised.value.found == found and raised.value.subject.endswith("metrics.json")
    content["recipe"]["data"]["eval"]["image_hw"] = "large"
    (folder / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(UserError) as raised:
        compare(read(folder, folder), 2)
    assert "data.eval.image_hw" in str(raised.value)
    (folder / "detections.json").unlink()
    with pytest.raises(UserError) as raised:
        read(folder)
    assert raised.value.subject.endswith("detections.json")


def test_evaluations_of_other_images_are_refused(tmp_path):
    write_evaluation(tmp_path / "one")
    write_evaluation(tmp_path / "two", **{"data.eval.num_images": 4})
    with pytest.raises(UserError) as raised:
        compare(read(tmp_path / "one", tmp_path / "two"), 2)
    assert raised.value.subject == str(tmp_path / "two")


def test_keys_that_differ_in_any_recipe():
    recipes = [{"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3, "d": 4}}]
    assert differing(recipes) == {"b.c": [2, 2, 3], "b.d": [None, None, 4]}


DEEP = "[" * 10**5 + "]" * 10**5


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("metrics.json", lambda metrics: DEEP),
        ("metrics.json", lambda metrics: json.dumps(metrics | {"step": "7"})),
        ("metrics.json", lambda metrics: json.dumps(metrics | {"data": 7})),
        ("metrics.json", lambda metrics: json.dumps(metrics | {"recipe": []})),
        ("metrics.json", lambda metrics: json.dumps(metrics | {"recipe": {"a.b": 1}})),
        ("metrics.json", lambda metrics: json.dumps(metrics | {"recipe": {"get": {"data": 1}}})),
        ("detections.json", lambda found: DEEP),
        ("detections.json", lambda found: "{}"),
        ("detections.json", lambda found: json.dumps([*found, 7])),
        ("detections.json", lambda found: json.dumps([found[0] | {"bbox": [1, 2, 3]}])),
        ("detections.json", lambda found: json.dumps([found[0] | {"bbox": [1, 2, 3, "4"]}])),
        ("detections.json", lambda found: json.dumps([found[0] | {"score": None}])),
        ("detections.json", lambda found: json.dumps([found[0] | {"image_id": 10**6}])),
        ("detections.json", lambda found: json.dumps([found[0] | {"category_id": 10**6}])),
        ("detections.json", lambda found: json.dumps([found[0] | {"category_id": [1]}])),
        ("detections.json", lambda found: json.dumps([found[0] | {"segmentation": {"size": [64, 64]}}])),
        ("detections.json", lambda found: json.dumps([found[0] | {"segmentation": {"size": [64, 64], "counts": "1"}}])),
        ("detections.json", lambda found: json.dumps([found[0] | {"segmentation": {"size": [9, 9], "counts": "a2"}}])),
    ],
)
def test_files_of_a_stranger_are_one_line(tmp_path, name, change):
    folder = write_evaluation(tmp_path)
    (folder / name).write_text(change(json.loads((folder / name).read_text())))
    with refused(name.replace(".", r"\.")):
        compare(read(folder, folder), 2)


def test_an_evaluation_by_a_version_with_other_keys_can_be_compared(tmp_path):
    folder = write_evaluation(tmp_path / "run")
    content = json.loads((folder / "metrics.json").read_text())
    del content["recipe"]["optim"]["lr"]
    content["recipe"]["old"] = 1
    (folder / "metrics.json").write_text(json.dumps(content))
    write_evaluation(tmp_path / "new")
    found = compare(read(tmp_path / "run", tmp_path / "new"), 2)
    assert found.recipes["old"] == [1, None] and found.recipes["optim.lr"][0] is None
