"""What a user reads when flags or the recipe are wrong: a line for each fault, exit status 2, no traceback."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = '''"""A command for tests."""
import atexit
import os
import signal
import threading
import time
from absl import flags, logging
from lga_jax.command_line import parsing
from lga_jax.errors import UserError

config = parsing.define_config()
workdir = parsing.define_path("workdir", "A folder.")
flags.DEFINE_integer("step", None, "")
flags.mark_flag_as_required("workdir")

def main():
    if flags.FLAGS.step == 7:
        raise UserError("--step 7: not a lucky number")
    if flags.FLAGS.step == 6:
        threading.Thread(target=time.sleep, args=(600,)).start()  # as a download would: no reason to wait
        print("started", flush=True)
        time.sleep(600)
    if flags.FLAGS.step == 4:
        atexit.register(os.kill, os.getpid(), signal.SIGINT)
    if flags.FLAGS.step == 8:
        raise ZeroDivisionError("a fault of ours")
    if flags.FLAGS.step == 5:
        import interrupted
    if flags.FLAGS.step == 9:
        import jax
        jax.devices()
    logging.info("a library's chatter")
    print("lr", config.value.optim.lr, "steps", config.value.num_steps, workdir.value, config.default_workdir)

if __name__ == "__main__":
    parsing.run(main, config)
'''
OWN = """
from lga_jax.recipe import start_from

def get_config():
    config = start_from("challenge")
    config.optim.lr = 0.25
    return config
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "script.py").write_text(SCRIPT)
    (folder / "good.py").write_text(OWN)
    (folder / "wrong.py").write_text(OWN.replace("optim.lr = 0.25", "optim.learning_rate = 0.25; config.seed = -1"))
    (folder / "raises.py").write_text("raise ValueError('from within')")
    return folder


def call(folder: Path, *args: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "script.py", *args]
    env = {"PYTHONPATH": str(ROOT), "HOME": str(folder), **environment}
    return subprocess.run(command, check=False, cwd=folder, env=env, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("--workdir w", ["--config", "give --config challenge_demo"]),
        ("--workdir w challenge", ["--config", "give --config challenge"]),
        ("--config good.py", ["--workdir", "found none"]),
        ("--config nope.py --workdir w", ["recipe nope.py", "no such file"]),
        ("--config chalenge --workdir w", ["recipe chalenge", "did you mean challenge?"]),
        ("--config raises.py --workdir w", ["recipe raises.py", "ValueError: from within, line 1"]),
        ("--config good.py --workdir w --config.optim.lrr=1", ["optim.lrr", "did you mean optim.lr?"]),
        ("--config good.py --workdir w --config.optm.lr=1", ["optm.lr", "did you mean optim.lr?"]),
        ("--config good.py --workdir w --config.optim.lr.x=1", ["optim.lr.x", "optim.lr has no keys below it"]),
        ("--config good.py --workdir w --config.optim.lr=abc", ["optim.lr", "found 'abc'"]),
        ("--config good.py --workdir w --config.optim.lr", ["--config.optim.lr", "expected a value"]),
        ("--config good.py --workdir w --config.data.buckets ((1,2", ["data.buckets", "'((1,2'"]),
        ("--config good.py --workdr w", ["--workdr", "did you mean --workdir?"]),
        ("--config good.py --workdir w --step x", ["--step=x", "int"]),
        ("--config good.py --workdir w stray", ["stray", "expected only flags"]),
        ("--config good.py --workdir w challenge", ["challenge", "give --config challenge"]),
        ("--config good.py --workdir w optim.lr=1", ["optim.lr=1", "--config.optim.lr=VALUE"]),
        ("--config good.py --workdir w --optim.lr=1", ["--optim.lr", "--config.optim.lr=VALUE"]),
        ("--config good.py --workdir w --lr 1", ["--lr", "--config.optim.lr=VALUE"]),
        ("--config good.py --workdir w --batch_size=4", ["--batch_size", "--config.batch_size=VALUE"]),
        ("--config good.py --workdir w --batch-size=4", ["--batch-size", "--config.batch_size=VALUE"]),
        ("--config good.py --workdir w --epochs 4", ["--epochs", "--config.num_steps=N"]),
        ("--config good.py --workdir w --gpu 0", ["--gpu", "JAX_PLATFORMS=cuda"]),
        ("--config good.py --workdir w --device=cpu", ["--device", "JAX_PLATFORMS=cuda"]),
        ("--config good.py --workdir w --resume", ["--resume", "repeat the command"]),
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


def test_all_faults_of_a_recipe_are_told_at_once(folder):
    result = call(folder, "--config=wrong.py", "--workdir=w", "--config.data.resize=cubic")
    assert (result.returncode, result.stdout) == (2, "")
    subjects = [line.split(":")[1].strip() for line in result.stderr.splitlines()]
    assert subjects == ["data.resize", "optim.learning_rate", "seed"]


def test_good_flags_run_main(folder):
    args = ("--config.num_steps", "1e3", "--config", "~/good.py", "--workdir=~/w", "--config.optim.lr=1")
    result = call(folder, *args)
    expected = f"lr 1.0 steps 1000 {folder}/w runs/good\n"
    assert (result.returncode, result.stdout, result.stderr) == (0, expected, "")


def test_help_is_short_and_says_how_values_of_the_recipe_are_given(folder):
    result = call(folder, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("A command for tests.\n")
    assert "--workdir  A folder." in result.stdout and "--config.optim.lr=0.01" in result.stdout
    assert "verbosity" not in result.stdout
    assert len(result.stdout.splitlines()) < 20


def test_a_device_that_is_not_there_is_the_users_fault(folder):
    result = call(folder, "--config", "good.py", "--workdir=w", "--step=9", JAX_PLATFORMS="cuda")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("error: JAX_PLATFORMS=cuda: ")
    assert "Traceback" not in result.stderr


def test_libraries_may_chatter_only_when_asked(folder):
    result = call(folder, "--config", "good.py", "--workdir=w", "--verbosity=0")
    assert "a library's chatter" in result.stderr


def test_a_fault_of_ours_keeps_its_traceback(folder):
    result = call(folder, "--config", "good.py", "--workdir=w", "--step=8")
    assert result.returncode == 1
    assert "Traceback" in result.stderr and "ZeroDivisionError: a fault of ours" in result.stderr


# Shells start what runs in the background with SIGINT ignored, which is inherited.
HEED = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"


def test_an_interrupt_that_an_import_would_lose_ends_the_process(folder):
    lost = "try:\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(600)\nexcept KeyboardInterrupt:\n    pass\n"
    (folder / "interrupted.py").write_text(f"import os, signal, time\n{lost}")
    command = [sys.executable, "script.py", "--config=good.py", "--workdir=w", "--step=5"]
    env = {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", HEED, *command], check=False, cwd=folder, env=env, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "interrupted\n")


def test_an_interrupt_is_one_line_and_status_130(folder):
    command = [sys.executable, "script.py", "--config=good.py", "--workdir=w", "--step=6"]
    env = {"PYTHONPATH": str(ROOT)}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen([sys.executable, "-c", HEED, *command], cwd=folder, env=env, **pipes) as process:
        try:
            assert process.stdout.readline() == "started\n"
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, stderr) == (130, "interrupted\n")


def test_an_interrupt_while_libraries_clean_up_ends_the_process_without_a_traceback(folder):
    command = [sys.executable, "script.py", "--config=good.py", "--workdir=w", "--step=4"]
    env = {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", HEED, *command], check=False, cwd=folder, env=env, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (-signal.SIGINT, "")
    assert result.stdout.startswith("lr ")
