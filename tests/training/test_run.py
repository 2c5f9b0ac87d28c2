"""Whole runs: what is stopped, killed or damaged ends as if nothing had happened."""

import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import closing
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from ml_collections import ConfigDict

from lga_jax.checkpoints.read import restore_params
from lga_jax.checkpoints.write import Checkpoints
from lga_jax.data.batches.loader import EvalLoader, TrainLoader
from lga_jax.data.challenge.source import Challenge
from lga_jax.data.source import UnreadableImageError
from lga_jax.errors import UserError
from lga_jax.evaluation.evaluate import evaluate
from lga_jax.evaluation.lvis import NAMES
from lga_jax.files import WriteError
from lga_jax.training import run as loop
from lga_jax.training import start
from lga_jax.training.metrics import TrainingDivergedError
from lga_jax.training.run import open_run, train
from tests.data import lvis_folder
from tests.faults import refused
from tests.training.stubs import StubEvaluation, install, signal_at_step, stub_config, tiny_config

LAST = 6  # num_steps of stub_config


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir = str(tmp_path_factory.mktemp("undisturbed"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        install(monkeypatch)
        train(stub_config(), workdir)
    return workdir


def assert_same_run(workdir, other):
    ours, theirs = restore_params(workdir, "latest"), restore_params(other, "latest")
    assert ours.step == theirs.step
    assert _digests(ours) == _digests(theirs)  # parameters, momentum, moving average, position in the data: every bit
    assert _metrics(workdir) == _metrics(other)


def _digests(saved):
    """Without the manifest's: settings that move no parameter may differ."""
    return {name: value for name, value in saved.manifest["digests"].items() if name != "manifest"}


def _metrics(workdir):
    with open(os.path.join(workdir, "metrics.jsonl")) as file:
        return file.read()


def _steps(workdir):
    with Checkpoints(str(workdir)) as checkpoints:
        return checkpoints.steps()


def test_metrics_of_a_run(undisturbed):
    lines = [json.loads(line) for line in _metrics(undisturbed).splitlines()]
    assert [(line["step"], "eval" in line) for line in lines] == [
        (2, False),
        (3, True),
        (4, False),
        (6, False),
        (6, True),
    ]
    assert lines[0].keys() == {"step", "total", "grad_norm", "order", "lr"}
    assert lines[-1]["per_class"] == {"tipper": None}  # no objects of it: nan, which JSON has no word for
    assert 4 in _steps(undisturbed)
    assert 6 in _steps(undisturbed)


class _RunOfPredictStep(StubEvaluation):
    """With the predict step's real calls."""

    def __call__(self, predict_step, variables, source, data_config, batch_size, *rest, **options):
        with closing(EvalLoader(source, data_config, batch_size, jax.local_devices())) as loader:
            self.shapes = {predict_step(variables, batch).shape and batch.images.shape[2:4] for batch in loader}
        return super().__call__(predict_step, variables, source, data_config, batch_size, *rest, **options)


def test_everything_is_compiled_before_the_first_step(tmp_path, monkeypatch, capsys):
    """Three buckets of training and two of evaluation: neither jax nor XLA works on a step again after the start."""
    traced, at_start, later = [], [], []
    evaluation = install(monkeypatch, _RunOfPredictStep(), traced=traced)
    heard = at_start

    def compile_ahead(programs, original=start.compile_ahead):
        nonlocal heard
        jax.monitoring.register_event_duration_secs_listener(
            lambda event, seconds, fun_name="", **_: heard.append(fun_name) if "backend_compile" in event else None
        )
        seconds = original(programs)
        heard = later
        return seconds

    monkeypatch.setattr(start, "compile_ahead", compile_ahead)
    config = stub_config(num_steps=9, eval_every=4)
    settings = dict(source="challenge", num_images=6, weight=1.0)
    hw = {"square": (64, 64), "tall": (128, 64), "wide": (64, 128)}
    mixed = dict(source="mixed", parts={name: dict(image_hw=size, **settings) for name, size in hw.items()})
    config.data.train, config.data.eval = ConfigDict(mixed), ConfigDict(mixed)
    buckets = ((32, 32), (24, 48), (48, 24))
    config.data.update(buckets=buckets, eval_buckets=buckets[1:], eval_short_edge=24, long_edge=48)
    try:
        train(config, str(tmp_path))
    finally:
        jax.monitoring.clear_event_listeners()
    wanted = [("evaluation", hw) for hw in buckets[1:]] + [("training", hw) for hw in buckets]
    assert sorted(traced) == sorted(wanted)
    assert evaluation.shapes == set(buckets[1:])
    assert len(at_start) == len(wanted)
    assert not set(later) & set(at_start)
    said = capsys.readouterr().out
    assert said.index("compiling the training step") < said.index("compiled for training 32x32 in ")


class _ConstantScore(StubEvaluation):
    """The same AP each time, and falling losses."""

    def __call__(self, *args, **options):
        result = super().__call__(*args, **options)
        losses = {"total": 1 / self.calls} if options["loss_step"] else None
        return result._replace(summary={"AP": 0.25, "AP50": 0.5}, losses=losses)


def test_a_run_without_gain_stops_and_stays_stopped(tmp_path, monkeypatch, capsys):
    evaluation = install(monkeypatch, _ConstantScore())
    config = stub_config(**{"eval_every": 1, "early_stopping.patience": 2})
    for _ in range(2):
        assert train(config, str(tmp_path)) is None
        line = capsys.readouterr().out.splitlines()[-1]
        assert line.startswith("done after step 3: 2 evaluations without a better AP") and "step 3" in line
    assert evaluation.calls == 3 and _steps(tmp_path) == [2, 3]
    config.early_stopping.patience = 4  # the same run goes on
    train(config, str(tmp_path))
    assert evaluation.calls == 5 and _steps(tmp_path)[-1] == 5


def test_losses_of_evaluations_are_written_and_can_stop_a_run(tmp_path, monkeypatch):
    install(monkeypatch, _ConstantScore())
    monkeypatch.setattr(loop, "make_loss_step", lambda detector, losses, extra: _LossStep())
    changes = {"early_stopping.patience": 2, "early_stopping.metric": "loss", "eval_losses": True}
    train(stub_config(eval_every=2, **changes), str(tmp_path))
    lines = [json.loads(line) for line in _metrics(tmp_path).splitlines()]
    losses = [(line["step"], line["losses"]["total"]) for line in lines if "losses" in line]
    assert losses == [(2, 1.0), (4, 0.5), (6, pytest.approx(1 / 3))]  # they fall, so the run does not stop


class _LossStep:
    def __call__(self, variables, batch):
        raise AssertionError("the evaluation is a stub")

    def lower(self, variables, batch):
        assert batch.targets.boxes.shape[2] > 0  # evaluation has slots for objects
        return jax.jit(lambda: 0).lower()


def test_parameters_without_the_moving_average_are_scored_too(tmp_path, monkeypatch):
    """A signal in the second of both evaluations stops the run; nothing of the first is written then."""
    evaluation = install(monkeypatch, StubEvaluation(during=lambda: signal_in(2)))

    def signal_in(call):
        if evaluation.calls == call:
            os.kill(os.getpid(), signal.SIGTERM)

    config = stub_config(eval_raw=True, num_steps=3)
    assert train(config, str(tmp_path)) == signal.SIGTERM
    assert "eval" not in _metrics(tmp_path)
    with open_run(config, tmp_path) as run:
        list(run)
        scores = {
            name: float(np.abs(params["conv"]["kernel"]).sum() % 1)
            for name, params in (("eval", run.state.ema_params), ("eval_raw", run.state.params))
        }
    line = json.loads(_metrics(tmp_path).splitlines()[-1])
    assert {name: line[name]["AP"] for name in scores} == pytest.approx(scores)
    assert scores["eval"] != scores["eval_raw"] and run.result.summary["AP"] == line["eval"]["AP"]


def test_resumed_run_equals_an_undisturbed_one(undisturbed, tmp_path, monkeypatch):
    install(monkeypatch)
    train(stub_config(num_steps=3), str(tmp_path))
    train(stub_config(), str(tmp_path))
    assert_same_run(str(tmp_path), undisturbed)
    before = _metrics(tmp_path)
    train(stub_config(), str(tmp_path))  # finished: nothing to do
    assert _metrics(tmp_path) == before


def test_weights_to_start_from_are_said_not_to_be_read_again(tmp_path, monkeypatch, capsys):
    install(monkeypatch)
    train(stub_config(num_steps=3), str(tmp_path))
    assert "init_from" not in capsys.readouterr().out
    config = stub_config(num_steps=3)
    config.model.init_from = "gone.npz"
    train(config, str(tmp_path))
    assert re.search("model.init_from: not read.* step 3", capsys.readouterr().out)


def test_signal_in_training_saves_the_step(undisturbed, tmp_path, monkeypatch):
    install(monkeypatch, before_step=signal_at_step(signal.SIGINT, 5))
    assert train(stub_config(), str(tmp_path)) == signal.SIGINT
    assert _steps(tmp_path)[-1] == 5
    install(monkeypatch)
    assert train(stub_config(), str(tmp_path)) is None
    assert_same_run(str(tmp_path), undisturbed)


def test_signal_in_evaluation_is_heard_and_the_evaluation_repeated(undisturbed, tmp_path, monkeypatch):
    install(monkeypatch, StubEvaluation(during=lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert train(stub_config(), str(tmp_path)) == signal.SIGTERM
    assert _steps(tmp_path)[-1] == 3
    repeated = install(monkeypatch)
    train(stub_config(), str(tmp_path))
    assert repeated.calls == 2  # at 3 and at 6
    assert_same_run(str(tmp_path), undisturbed)


def test_not_finite_loss_stops_and_leaves_good_checkpoints(tmp_path, monkeypatch):
    install(monkeypatch, poison_step=4)
    with pytest.raises(TrainingDivergedError, match=r"^step 5: .* total nan") as caught:
        train(stub_config(), str(tmp_path))
    assert "\n" not in str(caught.value)
    assert restore_params(str(tmp_path), "latest").step == 4


def test_poisoned_step_is_never_saved(tmp_path, monkeypatch):
    """The losses of a step that is saved at once are read before, though the next step has not begun."""
    install(monkeypatch, poison_step=3)
    with pytest.raises(TrainingDivergedError, match=r"^step 4: "):
        train(stub_config(), str(tmp_path))
    assert _steps(tmp_path) == [2, 3]


def test_damaged_checkpoint_falls_back_and_says_so(undisturbed, tmp_path, monkeypatch, capsys):
    install(monkeypatch)
    train(stub_config(num_steps=4), str(tmp_path))
    _truncate_arrays(tmp_path / "checkpoints" / "4")
    train(stub_config(), str(tmp_path))
    said = capsys.readouterr().out
    assert "4 is damaged" in said
    assert "resuming from step 3" in said
    assert (tmp_path / "checkpoints" / "4.damaged").is_dir()
    assert_same_run(str(tmp_path), undisturbed)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"optim.lr": 0.3}, "optim.lr 0.1 in the checkpoint, 0.3 in the recipe"),
        ({"num_steps": 2}, "num_steps 3 in the checkpoint, 2 in the recipe"),
        ({"seed": 1}, "seed 0 in the checkpoint, 1 in the recipe"),
    ],
)
def test_workdir_of_another_config_is_refused(tmp_path, monkeypatch, changes, found):
    install(monkeypatch)
    train(stub_config(num_steps=3), str(tmp_path))
    with pytest.raises(UserError) as caught:
        train(stub_config(**{"num_steps": 3} | changes), str(tmp_path))
    assert caught.value.found == found and "\n" not in str(caught.value)


def test_changes_that_move_no_parameter_are_accepted(undisturbed, tmp_path, monkeypatch):
    install(monkeypatch)
    train(stub_config(**{"num_steps": 3, "checkpoint_every": 1, "data.num_workers": 1}), str(tmp_path))
    train(stub_config(**{"data.prefetch": 1}), str(tmp_path))
    assert_same_run(str(tmp_path), undisturbed)


def test_random_backbone_that_cannot_learn_is_refused(tmp_path, monkeypatch):
    install(monkeypatch)
    for backbone in (dict(norm="frozen_bn", frozen_stages=0), dict(norm="gn", frozen_stages=2)):
        config = stub_config()
        config.model.backbone.update(backbone)
        with pytest.raises(UserError, match=r"^model.init_from: "):
            train(config, str(tmp_path))


_FAULTS = [
    UserError("000003.png", expected="the size of the annotations", found="another", remedy="correct the file"),
    RuntimeError("a decoder's own"),
]


@pytest.mark.parametrize("fault", _FAULTS, ids=["fault of a file", "any exception"])
def test_data_that_goes_bad_under_way_costs_no_step(undisturbed, tmp_path, monkeypatch, fault):
    install(monkeypatch)
    draw = Challenge.image
    bad = []

    def image(source, index):
        bad.append(index)
        if len(bad) > 14 + 14:  # after the sample of the start, in the fourth batch, whoever decodes first
            raise fault
        return draw(source, index)

    monkeypatch.setattr(Challenge, "image", image)
    with pytest.raises(type(fault)):
        train(stub_config(checkpoint_every=100, eval_every=0, **{"data.prefetch": 1}), str(tmp_path))
    assert _steps(tmp_path)[-1] >= 1
    monkeypatch.setattr(Challenge, "image", draw)
    train(stub_config(), str(tmp_path))
    assert (
        restore_params(str(tmp_path), "latest").manifest["digests"]
        == restore_params(undisturbed, "latest").manifest["digests"]
    )


def test_with_several_processes_a_fault_of_one_does_not_wait_for_the_others_to_save(tmp_path, monkeypatch):

    def fail(loader):
        raise ZeroDivisionError

    install(monkeypatch)
    monkeypatch.setattr(loop, "joined", lambda: SimpleNamespace(begin_steps=lambda step: None))
    monkeypatch.setattr(TrainLoader, "__next__", fail)
    with open_run(stub_config(), str(tmp_path)) as run:
        monkeypatch.setattr(run, "save", lambda: pytest.fail("saves"))
        with pytest.raises(ZeroDivisionError):
            list(run)


def test_too_many_images_that_go_bad_under_way_stop_the_run_after_saving(tmp_path, monkeypatch):
    """12 + 2 images are read at the start and 4 in the first batch; then 4 of 8, and 8 of 12 are unreadable."""
    install(monkeypatch)
    draw, reads = Challenge.image, []

    def image(source, index):
        reads.append(index)
        if len(reads) > 14 + 4:
            raise UnreadableImageError(f"{index}.png", found="a pointer", remedy="fetch it")
        return draw(source, index)

    monkeypatch.setattr(Challenge, "image", image)
    with pytest.raises(UserError) as caught:
        train(stub_config(checkpoint_every=100, eval_every=0, **{"data.num_workers": 1}), str(tmp_path))
    assert caught.value.found.startswith("8 of 12 images read so far, 8 of them a pointer: ")
    assert _steps(tmp_path)[-1] == 2


def test_a_set_that_was_never_downloaded_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    install(monkeypatch)

    def image(source, index):
        raise UnreadableImageError(f"{index}.png", found="a pointer", remedy="fetch it")

    monkeypatch.setattr(Challenge, "image", image)
    with pytest.raises(UserError) as caught:
        train(stub_config(), str(tmp_path / "run"))
    assert caught.value.subject == "data.train" and caught.value.found.startswith("12 of 12 images")
    assert not (tmp_path / "run").exists()


def test_last_evaluation_cut_short_is_not_called_done(tmp_path, monkeypatch, capsys):
    install(monkeypatch, StubEvaluation(during=lambda: os.kill(os.getpid(), signal.SIGTERM)))
    train(stub_config(eval_every=0), str(tmp_path))
    said = capsys.readouterr().out
    assert "stopped before the end of the last evaluation" in said and "done: " not in said


def test_other_parameters_are_refused(tmp_path, monkeypatch):
    install(monkeypatch)
    train(stub_config(num_steps=3), str(tmp_path))
    install(monkeypatch, step_name="weight")
    with pytest.raises(UserError) as caught:
        train(stub_config(), str(tmp_path))
    assert caught.value.found.startswith("2 ")
    assert "first conv/kernel: float32[3, 2] in the checkpoint, missing" in caught.value.found


def test_a_run_yields_the_steps_that_are_left(undisturbed, tmp_path, monkeypatch):
    install(monkeypatch)
    with open_run(stub_config(), str(tmp_path)) as run:
        taken = []
        for step, metrics in run:
            taken.append((step, run.step, int(run.state.step), sorted(metrics)))
            if step == 5:
                break  # leaving early saves the step
    assert taken == [(step, step, step, ["grad_norm", "order", "total"]) for step in range(1, 6)]
    assert _steps(tmp_path)[-1] == 5
    with open_run(stub_config(), str(tmp_path)) as run:
        assert [step for step, _ in run] == [6]
        assert run.result.summary["AP"] == json.loads(_metrics(tmp_path).splitlines()[-1])["eval"]["AP"]
    assert_same_run(str(tmp_path), undisturbed)


def test_an_exception_of_the_user_saves_nothing(tmp_path, monkeypatch):
    install(monkeypatch)
    for cadence, fails_at in ((2, 3), (100, 5)):
        with pytest.raises(KeyError):
            _fail_at(fails_at, stub_config(checkpoint_every=cadence), str(tmp_path))
        assert _steps(tmp_path) == [2, 3]  # by the cadence of checkpoints and evaluations


def _fail_at(step_to_fail, config, workdir):
    with open_run(config, workdir) as run:
        for step, _ in run:
            if step == step_to_fail:
                raise KeyError("mine")


def test_a_second_run_in_the_workdir_is_refused(tmp_path, monkeypatch):
    install(monkeypatch)
    with open_run(stub_config(num_steps=2), str(tmp_path)) as run:
        with refused(f"workdir {tmp_path}", f"process {os.getpid()} on"):
            train(stub_config(num_steps=2), str(tmp_path))
        assert [step for step, _ in run] == [1, 2]
    assert restore_params(str(tmp_path), "latest").step == 2  # reading needs no lock
    train(stub_config(num_steps=2), str(tmp_path))


def test_a_signal_before_the_first_step_has_its_usual_effect(tmp_path, monkeypatch):
    """Nothing has to be saved: Ctrl-C ends the preparation with KeyboardInterrupt."""
    install(monkeypatch)
    monkeypatch.setattr(loop, "compile_steps", lambda *_: signal.raise_signal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets background processes ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            train(stub_config(), str(tmp_path))
    finally:
        signal.signal(signal.SIGINT, before)
    assert _steps(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG])
def test_a_disk_that_takes_no_more_is_one_line_and_the_run_is_continued(undisturbed, tmp_path, monkeypatch, number):
    install(monkeypatch)

    def write(file, data, original=os.write):
        if b'"step": 4,' in data:
            raise OSError(number, os.strerror(number))
        return original(file, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with refused("metrics.jsonl$", os.strerror(number), WriteError) as caught:
            train(stub_config(), str(tmp_path))
    assert f"continues from step {_steps(tmp_path)[-1]}" in caught.value.remedy
    train(stub_config(), str(tmp_path))
    assert_same_run(str(tmp_path), undisturbed)


@pytest.mark.parametrize("fate", ["moved", "deleted"])
def test_a_workdir_that_goes_away_under_way_is_noticed_at_the_next_save(undisturbed, tmp_path, monkeypatch, fate):
    workdir, away = tmp_path / "run", tmp_path / "away"
    install(monkeypatch)
    train(stub_config(num_steps=3), str(workdir))
    install(monkeypatch, before_step=lambda: workdir.exists() and os.rename(workdir, away))
    with refused(f"{workdir}/checkpoints", "^none$", WriteError):
        train(stub_config(), str(workdir))
    assert not workdir.exists()
    if fate == "moved":
        os.rename(away, workdir)
    install(monkeypatch)
    train(stub_config(), str(workdir))
    assert_same_run(str(workdir), undisturbed)


def test_sources_of_ones_own(tmp_path, monkeypatch):
    """Sources that are given are not opened by the recipe's settings."""
    install(monkeypatch)
    config = stub_config(num_steps=2)
    given = {
        name: start.open_source(**config.data[part])
        for name, part in zip(("source", "eval_source"), ("train", "eval"), strict=True)
    }
    monkeypatch.setattr(start, "open_source", lambda **_: pytest.fail("opened"))
    with open_run(config, str(tmp_path), **given) as run:
        assert [step for step, _ in run] == [1, 2]


def test_a_torn_metrics_file_costs_no_best_checkpoint(tmp_path, monkeypatch):
    """Scores lie with their checkpoints: what is best is known though metrics.jsonl does not tell."""
    evaluation = install(monkeypatch)
    monkeypatch.setattr(loop, "score_source", _falling(evaluation))
    train(stub_config(num_steps=3), str(tmp_path))
    (tmp_path / "metrics.jsonl").write_text('{"step": 2, "tot')
    train(stub_config(num_steps=9, eval_every=100), str(tmp_path))
    assert _steps(tmp_path) == [3, 8, 9]
    assert restore_params(str(tmp_path)).step == 3


def _falling(evaluation):
    """Scores 0.9, 0.8, ...: the first is the best."""

    def score(*arguments, **settings):
        result = evaluation(*arguments, **settings)
        return result._replace(summary={"AP": 1 - 0.1 * evaluation.calls, "AP50": 1.0})

    return score


def test_processes_compare_recipe_data_and_state_before_anything_is_compiled(tmp_path, monkeypatch):
    compared, begun = {}, []

    def compare(name, facts):
        compared[name] = facts()
        if name == "data and state":
            assert begun == [0]  # a signal may stop a process that has passed this comparison
            raise UserError("process 1")

    install(monkeypatch)
    monkeypatch.setattr(loop, "joined", lambda: SimpleNamespace(begin_steps=begun.append))
    monkeypatch.setattr(loop, "compare", compare)
    monkeypatch.setattr(loop, "compile_steps", lambda *_: pytest.fail("compiled"))
    with pytest.raises(UserError, match=r"^process 1"):
        train(stub_config(), str(tmp_path))
    assert compared["recipe"]["recipe"]["seed"] == 0
    assert compared["data and state"]["step of the checkpoint"] == 0
    assert compared["data and state"]["data.train:"]["fingerprint"]


def test_impossible_cadence_is_refused(tmp_path):
    with pytest.raises(UserError, match="^checkpoint_every: "):
        train(stub_config(checkpoint_every=0), str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "changes",
    [dict(images_at_once=3), dict(images_at_once=-1), {"images_at_once": 1, "model.backbone.norm": "bn"}],
)
def test_images_at_once_must_divide_and_suit_the_norm(tmp_path, changes):
    with pytest.raises(UserError) as caught:
        train(stub_config(batch_size=8, **changes), str(tmp_path / "new"))
    assert caught.value.subject == "images_at_once"
    assert not (tmp_path / "new").exists()


def test_evaluation_data_of_other_classes_is_refused(tmp_path, monkeypatch):
    install(monkeypatch)
    sources = iter([["a", "b"], ["a", "c"]])
    real = __import__("lga_jax.data.source", fromlist=["open_source"]).open_source

    def renamed(**arguments):
        source = real(**arguments)
        source.class_names = tuple(next(sources))
        return source

    monkeypatch.setattr("lga_jax.training.start.open_source", renamed)
    with pytest.raises(UserError) as caught:
        train(stub_config(), str(tmp_path))
    assert caught.value.subject == "data.eval" and "'b'" in caught.value.found and "'c'" in caught.value.found


@pytest.mark.parametrize(("terminated", "killed"), [(2, 3), (4, 1)], ids=["writing", "resuming"])
def test_sigterm_and_then_kill(undisturbed, tmp_path, monkeypatch, terminated, killed):
    """One process is asked to stop, the next is killed; the third ends where an undisturbed one does.

    Steps are counted from where a process starts: one is killed while it may still be writing the checkpoint of
    step 4, the other before its first step.
    """
    first = _start(tmp_path, "--signal", "SIGTERM", "--at_step", str(terminated))
    said, _ = first.communicate(timeout=600)
    assert first.returncode == 128 + signal.SIGTERM, said
    assert "repeat the command to resume" in said
    assert _steps(tmp_path)[-1] == terminated
    second = _start(tmp_path, "--signal", "SIGKILL", "--at_step", str(killed))
    said, _ = second.communicate(timeout=600)
    assert second.returncode == -signal.SIGKILL, said
    install(monkeypatch)
    train(stub_config(), str(tmp_path))
    assert_same_run(str(tmp_path), undisturbed)


@pytest.mark.slow
def test_a_run_continues_on_fewer_devices(undisturbed, tmp_path, monkeypatch):
    """Two steps on 4 devices, two on 2 and two on 1, against all six on 4."""
    install(monkeypatch)
    train(stub_config(num_steps=2), str(tmp_path))
    for num_steps, num_devices in ((4, 2), (LAST, 1)):
        process = _start(tmp_path, "--num_steps", str(num_steps), "--num_devices", str(num_devices))
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 0, said
    _assert_nearly_same_run(tmp_path, undisturbed)


@pytest.mark.slow
def test_a_run_continues_with_other_numbers_of_processes(undisturbed, tmp_path, monkeypatch):
    """Two steps in 2 processes of 2 devices, two in 1 process of 4 and two in 2 again."""
    _assert_both_end(_start_two(tmp_path, "--num_steps", "2"), 0)
    install(monkeypatch)
    train(stub_config(num_steps=4), str(tmp_path))
    _assert_both_end(_start_two(tmp_path), 0)
    _assert_nearly_same_run(tmp_path, undisturbed)


def _assert_nearly_same_run(workdir, other):
    """The same images in the same order; sums over devices are rounded in another order."""
    ours, theirs = restore_params(str(workdir), "latest"), restore_params(str(other), "latest")
    assert ours.step == theirs.step == LAST
    assert ours.manifest["digests"]["data"] == theirs.manifest["digests"]["data"]
    jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-6), ours.variables, theirs.variables)
    ours, theirs = ([json.loads(line) for line in _metrics(run).splitlines()] for run in (workdir, other))
    ours, theirs = ([line for line in lines if "order" in line] for lines in (ours, theirs))
    assert [(line["step"], line["order"]) for line in ours] == [(line["step"], line["order"]) for line in theirs]


@pytest.mark.slow
@pytest.mark.parametrize(("lost", "at_step"), [(0, 5), (1, 3)], ids=["in a step", "while a checkpoint is written"])
def test_without_its_neighbour_a_process_ends_with_one_line(undisturbed, tmp_path, monkeypatch, lost, at_step):
    """Process `lost` is killed before that step; the checkpoint of step 2 may still be written at step 3."""
    killed = ("--signal", "SIGKILL", "--at_step", str(at_step))
    processes = _start_two(tmp_path, **{("first", "second")[lost]: killed})
    said = [process.communicate(timeout=600)[0] for process in processes]
    assert processes[lost].returncode == -signal.SIGKILL, said[lost]
    assert processes[1 - lost].returncode == 1, said[1 - lost]
    step = f"[{at_step - 1}{at_step}]"  # the other may have begun the step in which this one was killed
    assert re.search(rf"\nerror: process {lost} of 2 is gone since step {step}; .*\n$", said[1 - lost]), said
    assert "Traceback" not in said[1 - lost] and "Check failure" not in said[1 - lost]
    install(monkeypatch)
    train(stub_config(), str(tmp_path))
    _assert_nearly_same_run(tmp_path, undisturbed)


@pytest.mark.slow
def test_a_process_with_another_recipe_is_named_in_both(tmp_path):
    said = _assert_both_end(_start_two(tmp_path, second=("--changes", '{"optim.lr": 0.2}')), 2)
    assert said.count("error: process 1: expected recipe optim.lr 0.1 as in process 0, found 0.2") == 2
    assert "Traceback" not in said and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_two_processes_stop_at_the_same_step(tmp_path):
    """Though only one of them gets the signal."""
    processes = _start_two(tmp_path, "--num_steps", "30", second=("--signal", "SIGTERM", "--at_step", "14"))
    said = _assert_both_end(processes, 128 + signal.SIGTERM)
    assert "repeat the command to resume" in said
    assert _steps(tmp_path)[-1] in (14, 15)  # the step in which the signal arrives, or the next


@pytest.mark.slow
def test_data_that_one_process_cannot_read_cost_no_step(undisturbed, tmp_path, monkeypatch):
    """Process 1 reads 12 + 2 images at the start and 2 in each step: it can take 4 steps."""
    changes = json.dumps({"data.num_workers": 1, "checkpoint_every": 100, "eval_every": 0})
    processes = _start_two(tmp_path, "--changes", changes, second=("--bad_after", "22"))
    said = _assert_both_end(processes, 1)
    saved = _steps(tmp_path)[-1]
    assert saved in (2, 3)  # known after step 1
    reason = "RuntimeError: a disk of its own"
    assert f"error: process 1 of 2 has ended ({reason}) after step {saved}, which is saved; " in said
    assert said.rstrip().endswith(reason) and said.count("Traceback") == 1  # in process 1, as in a run with one process
    install(monkeypatch)
    train(stub_config(**{"data.num_workers": 1}), str(tmp_path))
    _assert_nearly_same_run(tmp_path, undisturbed)


@pytest.fixture
def compile_once(tmp_path):
    """The second run takes the programs that the first one compiled."""
    programs = str(tmp_path / "programs")
    settings = {"jax_compilation_cache_dir": programs, "jax_persistent_cache_min_compile_time_secs": 0}
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.mark.slow
def test_real_detector_resumes_bit_for_bit(tmp_path, monkeypatch, compile_once):
    """As if killed after step 2 was saved. Only the evaluation is stubbed.

    The dynamic values change after step 3 with what was seen before and after the interruption.
    """
    monkeypatch.setattr(loop, "score_source", StubEvaluation(("rpn", "deltas", "kernel")))
    config = tiny_config()
    config.dynamic.update(window=3, iou_rank=4)
    config.losses.roi_box_beta = 1.0
    train(config, str(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shutil.rmtree(tmp_path / "b" / "checkpoints" / "4")
    train(config, str(tmp_path / "b"))
    assert_same_run(str(tmp_path / "b"), str(tmp_path / "a"))


@pytest.mark.slow
def test_a_set_with_lists_of_verified_classes_is_trained_and_scored(tmp_path, compile_once):
    data = lvis_folder.write(tmp_path)
    config = tiny_config()
    config.update(num_steps=2, checkpoint_every=2)
    config.data.train, config.data.eval = ConfigDict(data), ConfigDict(data)
    config.data.repeat_threshold = 0.5
    config.losses.guide_rois = "all"
    config.inference.score_threshold = 0.0
    with open_run(config, str(tmp_path / "run")) as run:
        steps = [metrics for _, metrics in run]
    assert all(np.isfinite(value) for metrics in steps for value in metrics.values())
    result = evaluate(str(tmp_path / "run"))
    assert tuple(result.summary) == tuple(NAMES.values())
    assert result.num_images == 4 and len(result.detections) > 0
    assert result.analysis.num_objects == (1, 1, 2, 0)


def _start_two(workdir, *arguments, first=(), second=()):
    """Two processes of one run; `first` and `second` are arguments of one of them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        join = ("--coordinator", str(free.getsockname()[1]), "--num_processes", "2", "--process_id")
    return [_start(workdir, *arguments, *join, "0", *first), _start(workdir, *arguments, *join, "1", *second)]


def _assert_both_end(processes, status):
    said = "\n".join(process.communicate(timeout=600)[0] for process in processes)
    assert [process.returncode for process in processes] == [status, status], said
    return said


def _truncate_arrays(directory):
    largest = max((path for path in (directory / "variables").rglob("*") if path.is_file()), key=os.path.getsize)
    os.truncate(largest, os.path.getsize(largest) // 2)


def _start(workdir, *arguments):
    command = [sys.executable, "-m", "tests.training.stubs", str(workdir), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _third_time(error):
    calls = iter(range(100))

    def fail():
        if next(calls) == 2:
            raise error

    return fail


@pytest.mark.parametrize("place", ["loader", "step"])
def test_too_little_memory_saves_the_steps_so_far_and_says_what_to_lower(tmp_path, monkeypatch, place):
    fail, original = _third_time(MemoryError("std::bad_alloc")), start.TrainLoader.__next__
    install(monkeypatch, before_step=fail if place == "step" else lambda: None)
    if place == "loader":
        monkeypatch.setattr(start.TrainLoader, "__next__", lambda loader: fail() or original(loader))
    with refused("^memory$", "bad_alloc") as caught:
        train(stub_config(checkpoint_every=100, eval_every=0), str(tmp_path))
    assert "images_at_once" in caught.value.remedy and "continues from step 2" in caught.value.remedy
    assert _steps(tmp_path) == [2]


def test_too_little_memory_for_a_step_that_took_the_state_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    calls = iter(range(100))

    def after(step):
        def call(state, batch):
            result = step(state, batch)  # the state is donated
            if next(calls) == 3:
                raise MemoryError
            return result

        call.lower = step.lower
        return call

    install(monkeypatch)
    make = loop.make_train_step
    monkeypatch.setattr(loop, "make_train_step", lambda *args, **settings: after(make(*args, **settings)))
    with refused("^memory$") as caught:
        train(stub_config(checkpoint_every=2, eval_every=0), str(tmp_path))
    assert "continues from step 2" in caught.value.remedy and _steps(tmp_path) == [2]
