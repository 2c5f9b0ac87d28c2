"""`lga_jax watch` as a user calls it."""

import pytest

from lga_jax.commands.runs import watch as watch_command
from lga_jax.stores.store import Store
from tests.commands.calling import run_command
from tests.stores.memory import URL, bucket, names  # noqa: F401  (a fixture)

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


def test_a_run_in_a_bucket(bucket, tmp_path, monkeypatch):  # noqa: F811
    """It logs during the first sleep; the second is interrupted."""
    Store(URL).write("metrics.jsonl", LINE.encode())
    Store(URL).write("samples/sample_0.jpg", b"jpeg")
    pages = []

    def sleep(seconds):
        pages.append((tmp_path / "page" / "watch.html").read_text())
        if len(pages) == 2:
            raise KeyboardInterrupt
        Store(URL).write("metrics.jsonl", (LINE + '{"step": 20, "total": 1.0}\n').encode())

    monkeypatch.setattr(watch_command.time, "sleep", sleep)
    monkeypatch.setattr("lga_jax.command_line.parsing._end_interrupted", lambda: None)
    run_command(watch_command, URL, "--output", tmp_path / "page")
    assert "sample 0" in pages[0] and "at step 20" not in pages[0] and "at step 20" in pages[1]
    assert names(bucket) == ["metrics.jsonl", "samples/sample_0.jpg"]


@pytest.mark.parametrize(
    ("args", "subject"),
    [(["nothing"], "nothing"), ([".", "--every", "-1"], "--every"), ([URL], "--output")],
)
def test_faults_are_one_line(tmp_path, args, subject):
    done = run_command(watch_command, *args, folder=tmp_path)
    assert done.status == 2 and done.stderr.startswith(f"error: {subject}: ") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
