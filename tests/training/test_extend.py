"""A run resumes after its end: with more steps, or with a new schedule."""

import json
import os
import signal

import pytest

from lga_jax.checkpoints.read import restore_params
from lga_jax.errors import UserError
from lga_jax.training.run import train
from tests.training.stubs import install, signal_at_step, stub_config


def cosine(num_steps):
    return stub_config(**{"optim.schedule": "cosine", "num_steps": num_steps})


def digests_and_metrics(workdir):
    with open(os.path.join(workdir, "metrics.jsonl")) as file:
        return restore_params(str(workdir), "latest").manifest["digests"], file.read()


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """4 steps of a cosine, then a new one until step 9."""
    workdir = str(tmp_path_factory.mktemp("extended"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        install(monkeypatch)
        train(cosine(4), workdir)
        train(cosine(9), workdir, extend=True)
    return workdir


def test_the_new_cosine_starts_at_its_peak_and_is_recorded(extended):
    manifest = restore_params(extended, "latest").manifest
    assert (manifest["step"], manifest["schedule_start"], manifest["config"]["num_steps"]) == (9, 4, 9)
    with open(os.path.join(extended, "metrics.jsonl")) as file:
        rates = {line["step"]: line["lr"] for line in map(json.loads, file) if "lr" in line}
    assert list(rates) == [2, 4, 6, 8]
    # The first of 5 steps, after step 4, is at the peak of 0.1; the second follows 0.5 (1 + cos(pi / 5)).
    assert rates[6] == pytest.approx(0.1 * 0.9045085)
    assert rates[8] == pytest.approx(0.1 * 0.3454915)


@pytest.mark.parametrize("steps_taken", [1, 3])
@pytest.mark.parametrize("same_command", [True, False], ids=["with_flag", "without_flag"])
def test_an_extended_run_that_was_stopped_goes_on_bit_for_bit(
    extended, tmp_path, monkeypatch, steps_taken, same_command
):
    install(monkeypatch)
    train(cosine(4), str(tmp_path))
    install(monkeypatch, before_step=signal_at_step(signal.SIGTERM, steps_taken))
    train(cosine(9), str(tmp_path), extend=True)
    assert restore_params(str(tmp_path), "latest").step == 4 + steps_taken
    install(monkeypatch)
    train(cosine(9), str(tmp_path), extend=same_command)
    assert digests_and_metrics(tmp_path) == digests_and_metrics(extended)


def test_without_the_flag_the_refusal_names_the_ways(tmp_path, monkeypatch):
    install(monkeypatch)
    train(cosine(4), str(tmp_path))
    before = digests_and_metrics(tmp_path)
    with pytest.raises(UserError) as caught:
        train(cosine(9), str(tmp_path))
    assert caught.value.subject == f"checkpoint {tmp_path}/checkpoints/4"
    assert "num_steps 4 in the checkpoint, 9 in the recipe" in caught.value.found
    assert "extend" in caught.value.remedy and "model.init_from" in caught.value.remedy
    with pytest.raises(UserError) as caught:  # shorter than what is done: no way
        train(cosine(3), str(tmp_path), extend=True)
    assert "extend" not in caught.value.remedy
    assert digests_and_metrics(tmp_path) == before


def test_nothing_to_extend(tmp_path, monkeypatch):
    install(monkeypatch)
    with pytest.raises(UserError) as caught:
        train(cosine(4), str(tmp_path / "run"), extend=True)
    assert caught.value.subject == "extend"
    assert not list(tmp_path.iterdir())  # the refused start leaves nothing


def test_a_finished_run_of_steps_is_lengthened_without_a_flag(tmp_path, monkeypatch):
    for workdir, parts in ((tmp_path / "at_once", [6]), (tmp_path / "later", [3, 6])):
        for num_steps in parts:
            install(monkeypatch)
            train(stub_config(num_steps=num_steps), str(workdir))
    assert digests_and_metrics(tmp_path / "later") == digests_and_metrics(tmp_path / "at_once")


def test_extending_a_run_of_steps_starts_its_milestones_again(tmp_path, monkeypatch):
    def steps(num_steps):
        return stub_config(**{"num_steps": num_steps, "log_every": 1, "optim.milestones": (3,)})

    install(monkeypatch)
    train(steps(4), str(tmp_path))
    install(monkeypatch, before_step=signal_at_step(signal.SIGTERM, 1))
    train(steps(9), str(tmp_path), extend=True)
    install(monkeypatch)
    train(steps(9), str(tmp_path), extend=True)  # resumes the new schedule
    manifest = restore_params(str(tmp_path), "latest").manifest
    assert (manifest["step"], manifest["schedule_start"]) == (9, 4)
    with open(tmp_path / "metrics.jsonl") as file:
        rates = [line["lr"] for line in map(json.loads, file) if "lr" in line]
    # Step 4 and 8 begin after a milestone; the warm-up of the first two steps does not return.
    assert rates[2:] == pytest.approx([0.1, 0.01, 0.1, 0.1, 0.1, 0.01, 0.01])
