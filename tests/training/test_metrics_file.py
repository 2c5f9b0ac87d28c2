"""metrics.jsonl of an earlier process: damage costs the damaged lines alone."""

import json
import math

import jax
import pytest

from lga_jax.training.metrics_file import MetricsFile
from tests.faults import refused

LINES = [{"step": 2, "total": 1.0}, {"step": 3, "eval": {"AP": 0.25}}, {"step": 4, "total": 0.5}]
GOOD = [json.dumps(line).encode() for line in LINES]


def _open(workdir, last_step=100):
    file = MetricsFile(workdir, last_step)
    file.close()
    return file


def _lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "damage",
    [
        b'{"step": 2, "tot',
        b"\xff\xfe\x00",
        b"",
        b"7",
        b"[]",
        b'"text"',
        b"null",
        b"{}",
        b'{"step": "2"}',
        b'{"step": 2.5}',
        b'{"step": true}',
        b'{"step": 3, "eval": 7}',
        b'{"step": 3, "eval": {}}',
        b'{"step": 3, "eval": {"AP": "high"}}',
        b"[" * 100_000,
    ],
    ids=range(15),
)
@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_damaged_line_is_skipped_said_and_kept_aside(tmp_path, capsys, damage, place):
    content = b"\n".join([*GOOD[:place], damage, *GOOD[place:]]) + b"\n"
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(content)
    assert _open(tmp_path).evaluations == {3: 0.25}
    assert _lines(tmp_path) == LINES
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == content
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and f"number {place + 1})" in said
    _open(tmp_path)
    assert capsys.readouterr().out == ""


def test_what_was_kept_aside_is_never_overwritten(tmp_path):
    for text in ("one", "two", "three"):
        (tmp_path / "metrics.jsonl").write_text(text)
        _open(tmp_path)
    kept = ("metrics.jsonl.damaged", "metrics.jsonl.damaged-2", "metrics.jsonl.damaged-3")
    assert [(tmp_path / name).read_text() for name in kept] == ["one", "two", "three"]


def test_a_folder_in_place_of_the_file_is_kept_aside(tmp_path, capsys):
    (tmp_path / "metrics.jsonl").mkdir()
    (tmp_path / "metrics.jsonl" / "mine").write_text("precious")
    assert _open(tmp_path).evaluations == {}
    assert _lines(tmp_path) == []
    assert (tmp_path / "metrics.jsonl.damaged" / "mine").read_text() == "precious"
    assert "found a folder" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["metrics.jsonl", "metrics.jsonl.new"])
def test_a_link_is_not_followed(tmp_path, name):
    precious = tmp_path / "precious"
    precious.write_bytes(GOOD[0] + b"\n")
    (tmp_path / name).symlink_to(precious)
    file = MetricsFile(tmp_path, 100)
    file.write(LINES[2])
    file.close()
    assert precious.read_bytes() == GOOD[0] + b"\n"
    assert _lines(tmp_path)[-1] == LINES[2]


def test_lines_of_later_steps_are_removed(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(GOOD))
    assert _open(tmp_path, 2).evaluations == {}
    assert _lines(tmp_path) == LINES[:1]


def test_a_score_of_null_is_not_a_number(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 3, "eval": {"AP": null}}\n')
    assert math.isnan(_open(tmp_path).evaluations[3])


def test_other_processes_read_only(tmp_path, monkeypatch):
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([*GOOD, b"torn"]))
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    file = MetricsFile(tmp_path, 100)
    file.write(LINES[0])
    file.close()
    assert file.evaluations == {3: 0.25}
    assert (tmp_path / "metrics.jsonl").read_bytes() == b"\n".join([*GOOD, b"torn"])


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(5, "Input/output error")

    (tmp_path / "metrics.jsonl").write_bytes(GOOD[0])
    monkeypatch.setattr("pathlib.Path.read_bytes", fail)
    with refused("metrics.jsonl$", "Input/output error"):
        _open(tmp_path)
