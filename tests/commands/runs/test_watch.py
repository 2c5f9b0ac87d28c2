"""`lga_jax watch` as a user calls it."""

import pytest

from lga_jax.commands.runs import watch as watch_command
from tests.commands.calling import run_command

LINE = '{"step": 10, "total": 2.0}\n'


def test_a_page_is_written_once(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(LINE)
    done = run_command(watch_command, tmp_path, "--every", 0)
    assert done.status == 0, done.stderr
    assert (tmp_path / "watch.html").is_file() and "watch.html" in done.stdout


def test_the_page_is_written_again_when_the_run_logs_something(tmp_path, monkeypatch):
    """The run logs during the second sleep, and the third is interrupted."""
    (tmp_path / "metrics.jsonl").write_text(LINE)
    sleeps, pages = [], []

    def sleep(seconds):
        sleeps.append(seconds)
        pages.append((tmp_path / "watch.html").read_text())
        if len(sleeps) == 2:
            (tmp_path / "metrics.jsonl").write_text(LINE + '{"step": 20, "total": 1.0}\n')
        if len(sleeps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(watch_command.time, "sleep", sleep)
    monkeypatch.setattr("lga_jax.command_line.parsing._end_interrupted", lambda: None)
    run_command(watch_command, tmp_path, "--every", 3)
    assert sleeps == [3, 3, 3]
    assert pages[0] == pages[1] != pages[2] and "at step 20" in pages[2]


@pytest.mark.parametrize(("args", "subject"), [(["nothing"], "nothing"), ([".", "--every", "-1"], "--every")])
def test_faults_are_one_line(tmp_path, args, subject):
    done = run_command(watch_command, *args, folder=tmp_path)
    assert done.status == 2 and done.stderr.startswith(f"error: {subject}: ") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
