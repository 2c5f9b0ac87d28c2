"""The first difference between processes is found and named."""

import pytest

from lga_jax.processes import facts as facts_module
from lga_jax.processes.facts import difference_error, first_difference, installation

OURS = {"recipe": {"optim": {"lr": 0.1}, "seed": 0}, "class_names": ["crane", "tipper"], "step": 4}


def test_equal_facts_have_no_difference():
    assert first_difference({0: OURS, 1: {**OURS}, 2: {**OURS}}) is None


@pytest.mark.parametrize(
    ("theirs", "name", "expected", "found"),
    [
        ({"recipe": {"optim": {"lr": 0.2}, "seed": 0}}, "recipe optim.lr", "0.1", "0.2"),
        ({"recipe": {"optim": {}, "seed": 0}}, "recipe optim.lr", "0.1", "nothing"),
        ({"recipe": {**OURS["recipe"], "new": None}}, "recipe new", "nothing", "None"),
        ({"class_names": ["crane", "tipper "]}, "class_names 1", "'tipper'", "'tipper '"),
        ({"class_names": ["crane"]}, "class_names 1", "'tipper'", "nothing"),
        ({"step": None}, "step", "4", "None"),
    ],
)
def test_a_difference_is_named_with_both_values(theirs, name, expected, found):
    difference = first_difference({0: OURS, 2: {**OURS, **theirs}, 1: OURS})
    assert difference == {"process": 2, "name": name, "expected": expected, "found": found}
    error = difference_error(**difference)
    assert error.subject == "process 2" and error.found == found
    assert name in error.expected and "\n" not in str(error)


def test_the_installation_holds_versions_and_every_file_of_the_package(monkeypatch, tmp_path):
    found = installation()
    assert found["version of"]["jax"].count(".") == 2 and found["Python"].count(".") == 1
    assert "lga_jax/processes/facts.py" in found["code of"] and len(found["code of"]) > 100
    (tmp_path / "lga").mkdir()
    (tmp_path / "lga" / "step.py").write_text("a")
    monkeypatch.setattr(facts_module, "_PACKAGE_FOLDER", tmp_path / "lga")
    ours = installation()
    (tmp_path / "lga" / "step.py").write_text("b")
    assert first_difference({0: ours, 1: installation()})["name"] == "code of lga/step.py"
