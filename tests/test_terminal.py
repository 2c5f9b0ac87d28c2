"""What reaches a terminal, a file or a pipe: every text, no control characters, no exception."""

import errno
import io
import os
import sys

import pytest
from tqdm import tqdm

from lga_jax.command_line.parsing import exit_on_user_error
from lga_jax.terminal import cell, num_columns, safe_output, say, shortened


@pytest.fixture(params=[-1, 0], ids=["buffered", "PYTHONUNBUFFERED"])
def open_as(monkeypatch, request):
    """open_as(name, file) puts a stream, made as Python makes its own, in the place of sys.stdout or sys.stderr."""
    streams, buffering = [], request.param

    def replace(name, file, encoding="utf-8"):
        stream = open(file, "wb", buffering=buffering)  # noqa: SIM115
        streams.append(io.TextIOWrapper(stream, encoding=encoding, write_through=buffering == 0))
        monkeypatch.setattr(sys, name, streams[-1])
        return streams[-1]

    yield replace
    for stream in streams:
        stream.close()  # what Python does at its end: raises an error if text is left


def test_names_reach_the_terminal_without_control_characters(capsys):
    say("a\x1b[2Jb\nc\r\ud800\u202ed 汽车")
    assert capsys.readouterr().out == "a\\x1b[2Jb\nc\\r\\ud800\\u202ed 汽车\n"


def test_characters_that_the_stream_does_not_have_are_written_as_escapes(open_as, tmp_path):
    open_as("stdout", tmp_path / "out", "ascii")
    with safe_output() as lost:
        say("汽车 é")
        print("ü", file=sys.stdout)
    assert (tmp_path / "out").read_text() == "\\u6c7d\\u8f66 \\xe9\n\\xfc\n" and lost == []


def test_a_reader_that_goes_away_ends_nothing(open_as):
    for name in ("stdout", "stderr"):
        reader, writer = os.pipe()
        open_as(name, writer)
        os.close(reader)
    with safe_output() as lost:
        for _ in range(3):
            say("a line")
            print("a line", file=sys.stderr, flush=True)
        with tqdm(range(3), mininterval=0) as bar:
            for _ in bar:
                say("above the bar")
    assert lost == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_ends_nothing_and_is_said_at_the_end(open_as):
    open_as("stdout", "/dev/full")
    with safe_output() as lost:
        say("a line")
        say("another")
    assert [error.errno for error in lost] == [errno.ENOSPC]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_command_whose_output_was_lost_does_not_end_with_status_zero(open_as, capsys):
    open_as("stdout", "/dev/full")
    with safe_output(), pytest.raises(SystemExit) as end:
        exit_on_user_error(lambda: print("a line"))()
    assert end.value.code == 2 and "standard output" in capsys.readouterr().err


def test_streams_are_put_back_and_foreign_ones_are_left_alone(open_as, tmp_path, monkeypatch):
    ours, foreign = open_as("stdout", tmp_path / "out"), io.StringIO()
    monkeypatch.setattr(sys, "stderr", foreign)
    with safe_output():
        assert sys.stderr is foreign and sys.stdout is not ours
        inner = sys.stdout
        with safe_output():
            assert sys.stdout is inner
        print("kept")
    assert sys.stdout is ours and (tmp_path / "out").read_text() == "kept\n"


def test_columns_of_a_table_are_kept_by_wide_long_and_broken_names():
    names = ["car", "汽车", "é", "x" * 50, "汽" * 50, "a\nb\x1b"]
    assert [num_columns(cell(name, 12)) for name in names] == [12] * len(names)
    assert shortened("x" * 50, 12) == "x" * 11 + "…" and shortened("a\nb\x1b", 12) == r"a\nb\x1b"
