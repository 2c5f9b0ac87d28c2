"""Which trackers a run has, what it says when one is missing, and that a run can lose one."""

import json
import subprocess
import sys

import pytest

from lga_jax.errors import UserError
from lga_jax.training.trackers import tracker as trackers
from lga_jax.training.trackers.board import Board
from lga_jax.training.trackers.tracker import IDS, open_trackers
from tests.faults import refused
from tests.training.stubs import stub_config


class _Recording:
    """Stands for a service. `fault` is raised by the first call."""

    def __init__(self, fault=None):
        self.id, self.calls, self.fault = "given", [], fault

    def add(self, *arguments):
        self.calls.append(("add", *arguments))
        if self.fault:
            raise self.fault

    def add_images(self, *arguments):
        self.calls.append(("add_images", *arguments))

    def close(self, failed):
        self.calls.append(("close", failed))


@pytest.fixture
def service(monkeypatch):
    opened = _Recording()
    monkeypatch.setattr(trackers, "_open", lambda name, recipe, workdir: opened)
    return opened


def test_a_recipe_without_a_tracker_has_tensorboard_alone(tmp_path):
    with open_trackers(stub_config(), str(tmp_path), 0) as found:
        assert [type(one) for one in found] == [Board]
    assert list((tmp_path / "tensorboard").iterdir()) and not (tmp_path / IDS).exists()


def test_processes_other_than_the_first_have_none(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers.jax, "process_index", lambda: 1)
    with open_trackers(stub_config(tracker="wandb"), str(tmp_path), 0) as found:
        assert found == []
    assert not list(tmp_path.iterdir())


def test_a_tracker_is_told_how_the_run_ended(tmp_path, service):
    with open_trackers(stub_config(tracker="wandb"), str(tmp_path), 0):
        pass
    with pytest.raises(ZeroDivisionError), open_trackers(stub_config(tracker="wandb"), str(tmp_path), 0):
        raise ZeroDivisionError
    assert service.calls == [("close", False), ("close", True)]


def test_a_run_goes_on_without_a_tracker_that_fails(tmp_path, service, capsys):
    service.fault = ConnectionError("no route to host\nsecond line")
    with open_trackers(stub_config(tracker="mlflow"), str(tmp_path), 0) as (_, losable):
        for step in (1, 2):
            losable.add(step, {"a": 1.0})
        losable.add_images(2, {})
    assert service.calls == [("add", 1, {"a": 1.0})]
    assert capsys.readouterr().out == "tracker mlflow: no route to host; the run continues without it\n"


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, f"lga_jax.training.trackers.{name}_run", None)
    with pytest.raises(UserError) as caught, open_trackers(stub_config(tracker=name), str(tmp_path), 0):
        pass
    assert caught.value.subject == "tracker" and f"lga_jax[{name}]" in caught.value.remedy


@pytest.mark.parametrize("content", ["{", "[]", '{"wandb": 3}', '{"mlflow": "other"}'])
def test_a_damaged_file_of_ids_begins_another_run(tmp_path, monkeypatch, content):
    (tmp_path / IDS).write_text(content)
    given = []

    class Opened(_Recording):
        def __init__(self, recipe, workdir, run_id):
            super().__init__()
            given.append(run_id)

    module = type(sys)("wandb_run")
    module.WandbRun = Opened
    monkeypatch.setitem(sys.modules, "lga_jax.training.trackers.wandb_run", module)
    for _ in range(2):
        with open_trackers(stub_config(tracker="wandb"), str(tmp_path), 0):
            pass
    assert given == [None, "given"]
    assert json.loads((tmp_path / IDS).read_text())["wandb"] == "given"


def test_a_service_that_refuses_is_one_line(tmp_path, monkeypatch):
    module = type(sys)("wandb_run")

    def refuse(*_):
        raise RuntimeError("api_key not configured (no-tty)")

    module.WandbRun = refuse
    monkeypatch.setitem(sys.modules, "lga_jax.training.trackers.wandb_run", module)
    with (
        refused("tracker wandb", "api_key not configured"),
        open_trackers(stub_config(tracker="wandb"), str(tmp_path), 0),
    ):
        pass


def test_the_packages_are_imported_only_for_a_recipe_that_names_them():
    code = "import sys, lga_jax.training.run; print({'wandb', 'mlflow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
