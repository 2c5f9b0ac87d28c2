"""What a user reads when flags, the config file or an override are wrong: one line, exit status 2, no traceback."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import threading
import time
from absl import flags, logging
from ml_collections import config_flags
from lga_jax.commands.command_line import run
from lga_jax.errors import UserError

config_flags.DEFINE_config_file("config", lock_config=True)
flags.DEFINE_string("workdir", None, "")
flags.DEFINE_integer("step", None, "")
flags.mark_flags_as_required(["config", "workdir"])

def main():
    if flags.FLAGS.step == 7:
        raise UserError("--step 7: not a lucky number")
    if flags.FLAGS.step == 6:
        threading.Thread(target=time.sleep, args=(600,)).start()  # as a download would: no reason to wait
        print("started", flush=True)
        time.sleep(600)
    if flags.FLAGS.step == 8:
        raise ZeroDivisionError("a fault of ours")
    logging.info("a library's chatter")
    print("lr", flags.FLAGS.config.optim.lr)

run(main)
"""
CONFIG = """
from ml_collections import ConfigDict

def get_config():
    return ConfigDict(dict(optim=dict(lr=0.1, momentum=0.9), sizes=(1, 2), flip=True))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "script.py").write_text(SCRIPT)
    (folder / "good.py").write_text(CONFIG)
    (folder / "raises.py").write_text("raise ValueError('from within')")
    (folder / "syntax.py").write_text("def get_config(:")
    (folder / "empty.py").write_text("")
    return folder


def call(folder: Path, *args: str) -> subprocess.CompletedProcess:
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "script.py", *args]
    return subprocess.run(command, check=False, cwd=folder, env={"PYTHONPATH": root}, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("--workdir w", ["--config", "found none"]),
        ("--config good.py", ["--workdir", "found none"]),
        ("--config nope.py --workdir w", ["--config nope.py", "no such file"]),
        ("--config nope.py --workdir w --config.optim.lr=1", ["--config nope.py", "no such file"]),
        ("--config raises.py --workdir w", ["--config raises.py", "ValueError: from within"]),
        ("--config syntax.py --workdir w", ["--config syntax.py", "invalid syntax, line 1"]),
        ("--config empty.py --workdir w", ["--config empty.py", "get_config"]),
        ("--config good.py --workdir w --config.optim.lrr=1", ["--config.optim.lrr", 'did you mean "lr"?']),
        ("--config good.py --workdir w --config.optm.lr=1", ["--config.optm.lr", 'did you mean "optim"?']),
        ("--config good.py --workdir w --config.optim.zzzz=1", ["--config.optim.zzzz", "configs/coco.py lists"]),
        ("--config good.py --workdir w --config.optim.lr.x=1", ["--config.optim.lr.x", 'found "x"']),
        ("--config good.py --workdir w --config.optim.lr=abc", ["--config.optim.lr=abc", "float"]),
        ("--config good.py --workdir w --config.sizes=((1,2", ["--config.sizes=((1,2", "tuple"]),
        ("--config good.py --workdir w --config.flip=maybe", ["--config.flip=maybe", "boolean"]),
        ("--config good.py --workdr w", ["workdr", "Did you mean: workdir"]),
        ("--config good.py --workdir w --step x", ["--step=x", "int"]),
        ("--config good.py --workdir w stray", ["stray", "expected only flags"]),
        ("--config good.py --workdir w --step 7", ["error: --step 7: not a lucky number"]),
    ],
)
def test_a_users_fault_is_one_line_and_status_2(folder, args, words):
    result = call(folder, *args.split())
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: ")
    for word in words:
        assert word in result.stderr


def test_good_flags_run_main(folder):
    result = call(folder, "--config", "good.py", "--workdir=w", "--config.optim.lr=1")
    assert (result.returncode, result.stdout, result.stderr) == (0, "lr 1.0\n", "")


def test_libraries_may_chatter_only_when_asked(folder):
    result = call(folder, "--config", "good.py", "--workdir=w", "--verbosity=0")
    assert "a library's chatter" in result.stderr


def test_a_fault_of_ours_keeps_its_traceback(folder):
    result = call(folder, "--config", "good.py", "--workdir=w", "--step=8")
    assert result.returncode == 1
    assert "Traceback" in result.stderr and "ZeroDivisionError: a fault of ours" in result.stderr


def test_an_interrupt_is_one_line_and_status_130(folder):
    command = [sys.executable, "script.py", "--config=good.py", "--workdir=w", "--step=6"]
    env = {"PYTHONPATH": str(Path(__file__).parents[2])}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # Shells start what runs in the background with SIGINT ignored, which is inherited.
    heed = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    with subprocess.Popen([sys.executable, "-c", heed, *command], cwd=folder, env=env, **pipes) as process:
        try:
            assert process.stdout.readline() == "started\n"
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, stderr) == (130, "interrupted\n")
