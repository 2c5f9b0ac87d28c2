"""The harness of `make torture`: its trials in small, and that it sees what it is there to see."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from lga_jax.checkpoints import read as read_module
from lga_jax.checkpoints import write as write_module
from tests.checkpoints.saving import manifest_of, save_steps, state_of
from tests.torture import samples
from tests.torture import table as table_module
from tests.torture.damage import Damage, Sound
from tests.torture.endurance import Sample, check_flat
from tests.torture.failing_disk import failing_disk
from tests.torture.goals import PARTS
from tests.torture.inputs import Inputs
from tests.torture.journal import Journal, Result, read_summary
from tests.torture.lives import Fault, Remains
from tests.torture.moments import Moment, draw, wait_for
from tests.torture.mutate import mutate_bytes, mutate_json
from tests.torture.table import table

ROOT = Path(__file__).parents[1]


def test_mutations_are_functions_of_the_generator():
    content = {"a": [1, 2, {"b": "c"}], "d": None}
    for mutate, given in ((mutate_json, content), (mutate_bytes, b"some bytes" * 30)):
        twice = [[mutate(given, np.random.default_rng(seed)) for seed in range(30)] for _ in range(2)]
        assert repr(twice[0]) == repr(twice[1])
        assert len({repr(mutant) for mutant in twice[0]}) > 20
    assert content == {"a": [1, 2, {"b": "c"}], "d": None}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return Inputs(tmp_path_factory.mktemp("inputs"), 0)


def test_intact_inputs_are_read(inputs, monkeypatch):
    monkeypatch.setattr("tests.torture.inputs.mutate_bytes", lambda data, rng: data)
    monkeypatch.setattr("tests.torture.inputs.mutate_json", lambda content, rng: content)
    for number in range(20):
        result = inputs.trial(number)
        assert result.fault == "" and (result.found != "refused" or result.kind == "recipes"), result


@pytest.mark.filterwarnings("ignore")
def test_mutated_inputs_are_read_or_refused(inputs):
    results = [inputs.trial(number) for number in range(100)]
    assert [result for result in results if result.fault] == []
    assert {result.found for result in results} >= {"read", "refused"}


def test_a_picture_whose_checksum_does_not_fit_is_seen():
    data = next(data for name, data, _ in samples.images() if name == "PNG RGB")
    assert samples.sound_png(data)
    for place in (20, data.index(b"IDAT") + 10, len(data) - 2):
        assert not samples.sound_png(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    assert not samples.sound_png(data[:-12])


@pytest.fixture(scope="module")
def damage(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("sound") / "run"
    save_steps(workdir, [0.1, 0.3, 0.2])
    states = {step: jax.device_get(state_of(float(step))) for step in (2, 3)}
    like = state_of(0.0)
    return Damage(Sound(workdir, "", like, manifest_of(like), states), workdir.parent, 0, commands=False)


def test_damages_of_a_checkpoint_are_found_or_without_effect(damage):
    results = [damage.trial(number) for number in range(0, 120, 17)]
    assert [result for result in results if result.fault] == []
    assert {result.found for result in results} >= {"found", "without effect"}


def test_a_reader_that_verifies_nothing_is_seen(damage, monkeypatch):
    """The arrays of another step are readable."""

    def exchange(file, kind, rng):
        (step,) = (parent for parent in file.parents if parent.parent.name == "checkpoints")
        shutil.rmtree(step / "variables")
        shutil.copytree(step.with_name("2") / "variables", step / "variables")
        return True

    monkeypatch.setattr("tests.torture.damage.spoil", exchange)
    assert damage.trial(0).found == "found"
    for module in (read_module, write_module):
        monkeypatch.setattr(module, "verify", lambda tree, expected: None)
    assert "other values" in damage.trial(0).fault


def test_results_go_on_where_they_stopped_and_belong_to_their_sources(tmp_path, monkeypatch):
    journal = Journal(tmp_path, "kill", 0)
    journal.add(Result(0, "step", "", "killed", 2.0))
    journal.add(Result(2, "save", "lost", seconds=1.0))
    with journal.path.open("a") as file:
        file.write('{"trial": 1, "ki')
    again = Journal(tmp_path, "kill", 0)
    assert again.missing(4) == [1, 3] and again.results[2].fault == "lost"
    assert Journal(tmp_path, "kill", 1).missing(2) == [0, 1]
    Journal(tmp_path, "kill", 1).add(Result(0, "step", ""))
    monkeypatch.setattr("tests.torture.journal.digest_of_sources", lambda: "others")
    assert Journal(tmp_path, "kill", 1).missing(1) == [0]


def test_table(tmp_path):
    for name in PARTS:
        journal = Journal(tmp_path, name, 0)
        journal.add(Result(0, "a", "", "killed", 2.0, 1.5))
        journal.add(Result(1, "b", "it | failed"))
    text = table(
        {name: [read_summary(tmp_path / f"{name}.jsonl")] for name in PARTS},
        {"processor": "a processor", "python": "3.11 on", "jax": "1", "orbax-checkpoint": "2"},
    )
    assert text.count("| A: 1 of 2 (a 1, b 0") == 4  # kills and disk
    assert text.count("| A: 1 of 2 (killed 1") == 3
    assert "the longest 1.5 s" in text and "a processor" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_a_row_has_the_figures_of_each_state_of_the_library(tmp_path, monkeypatch):
    folders = [tmp_path / name for name in ("earlier", "later")]
    for folder in folders:
        monkeypatch.setattr("tests.torture.journal.digest_of_sources", lambda name=folder.name: f"of {name}")
        Journal(folder, "damage", 0).add(Result(0, "flip", "", folder.name))
    table_module.write(folders, None)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- figures of `make torture` -->\nformer table\n<!-- end of the figures -->\nafter\n")
    table_module.write(folders, page)
    text = page.read_text()
    assert "| A: 1 of 1 (earlier 1); B: 1 of 1 (later 1) |" in text and "A of earlier, B of later." in text
    assert text.startswith("before\n") and text.endswith("after\n") and "former table" not in text


def test_memory_files_and_threads_may_not_grow():
    def run(**late):
        early = Sample(step=0, resident=1000, files=10, threads=5)
        return [(early._replace(**late) if step > 500 else early)._replace(step=step) for step in range(0, 1000, 10)]

    assert check_flat(run(resident=1015), 1000) == pytest.approx(1.5)
    for late in (dict(resident=1030), dict(files=11), dict(threads=6)):
        with pytest.raises(Fault):
            check_flat(run(**late), 1000)
    while_saving = [s._replace(threads=8) if s.step % 50 else s for s in run()]  # four of five samples
    assert check_flat([s._replace(threads=5) if s.step < 500 else s for s in while_saving], 1000) == 0
    with pytest.raises(Fault, match="too few"):
        check_flat(run()[:50], 1000)


class _Process:
    """Goes through the phases of a run, one at each look."""

    def __init__(self, workdir):
        self.log, self._looks = [], 0
        self._acts = [
            lambda: self.log.append("compiling the training step"),
            lambda: self.log.append("compiled for training"),
            *[
                lambda name=name: (workdir / "checkpoints" / name).mkdir(parents=True)
                for name in ("3.orbax-checkpoint-tmp", "3", "4", "6.orbax-checkpoint-tmp", "6")
            ],
            lambda: self.log.append("evaluating:   0%"),
            lambda: (workdir / "eval_6").mkdir(),
        ]

    def ended(self):
        return self._looks > len(self._acts)

    def said(self):
        if self._looks < len(self._acts):
            self._acts[self._looks]()
        self._looks += 1
        return "\n".join(self.log)


@pytest.mark.parametrize(
    ("phase", "count", "looks"),
    [
        *[("start-up", 1, 1), ("compile", 1, 1), ("step", 1, 2), ("save", 2, 6), ("delete", 1, 7)],
        *[("evaluation", 1, 8), ("report", 1, 9), ("save", 3, None)],
    ],
)
def test_phases_are_seen_from_outside(tmp_path, phase, count, looks):
    process = _Process(tmp_path)
    assert wait_for(Moment(phase, count, 0.0), process, tmp_path) == (looks is not None)
    assert looks is None or process._looks == looks
    assert draw(phase, np.random.default_rng(3)) == draw(phase, np.random.default_rng(3))


def test_what_differs_is_named():
    remains = Remains(digests={"1": {"variables": "a"}}, scores={"1": 0.5}, best=1, metrics="", reports={})
    assert remains.difference(remains) == ""
    assert remains._replace(best=2).difference(remains) == "best"
    assert remains._replace(digests={"1": {"variables": "b"}}).difference(remains) == "digests"


_FAILING = """
import os, sys
for act in (lambda: open("a", "w"), lambda: os.mkdir("b"), lambda: os.rename("here", "c"), lambda: open("here").read()):
    try:
        act()
        print("done")
    except OSError as error:
        print(error.errno)
"""


def test_the_failing_disk_fails(tmp_path):
    library = failing_disk(tmp_path)
    if library is None:
        pytest.skip("no C compiler")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "here").touch()
    fails = {"LD_PRELOAD": str(library), "FAILING_DISK": str(folder), "FAILING_FROM": "2", "FAILING_ERRNO": "28"}
    done = subprocess.run(
        [sys.executable, "-c", _FAILING], cwd=folder, env=os.environ | fails, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["done", str(errno.ENOSPC), str(errno.ENOSPC), "done"]


_WORKERS = """
import json, os, pathlib, sys, time
from tests.torture import workers
workers.LONGEST = 0.2

class Trials:
    def trial(self, number):
        if number == 1:
            os.abort()
        while number == 3:
            pass
        return workers.Result(number, "kind", "")

found = workers.results_of_workers(Trials, range(5), pathlib.Path(sys.argv[1]))
print(json.dumps([bool(result.fault) for result in sorted(found)]))
"""


def test_a_crash_and_a_hang_are_known_with_their_trial(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _WORKERS, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [False, True, False, True, False]


@pytest.mark.slow
def test_a_run_that_is_killed_ends_as_if_nothing_had_happened(tmp_path):
    """Two trials of the harness as `make torture` does them, with a stub for the detector."""
    places = ["--scratch", str(tmp_path / "scratch"), "--output", str(tmp_path)]
    command = [sys.executable, "-m", "tests.torture", "kill-stub", "--trials", "2", *places]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| A: 2 of 2 (compile 1, start-up 1) |" in done.stdout, done.stdout + done.stderr
