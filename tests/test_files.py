"""Writing results: what cannot be written is one line, and leaves what was there."""

import errno
import json
import math
import os

import pytest

from lga_jax.errors import UserError
from lga_jax.files import (
    Appending,
    WriteError,
    make_folder,
    null_for_nan,
    remedy_for_writing,
    unused_path,
    write_atomically,
    write_json,
)
from tests.faults import refused


def test_a_folder_is_made_with_those_above_it_and_left_empty(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(
        UserError, match=r"file: expected a folder that can be written, found File exists; name another folder"
    ):
        make_folder(tmp_path / "file")
    with pytest.raises(UserError, match=r"file/deep: expected a folder .* found Not a directory"):
        make_folder(tmp_path / "file" / "deep")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_into_which_nothing_can_be_written_is_named(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # rights do not stop the superuser, who may run the tests
    with pytest.raises(UserError, match=r"expected a folder that can be written, found Permission denied"):
        make_folder(tmp_path)


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.stat().st_mode & 0o777 == 0o644

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(UserError, match=r"metrics\.json: .* found No space left on device; free"):
        write_atomically(path, b"newer")
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.json"] and path.read_bytes() == b"new"


def test_a_file_whose_folder_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"report\.html: .* found No such file or directory"):
        write_atomically(tmp_path / "missing" / "report.html", b"")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_space_is_asked_for_where_it_is_missing(code):
    assert remedy_for_writing(OSError(code, "")) == "free space"
    assert remedy_for_writing(PermissionError(errno.EACCES, "")) == "name another folder"


def test_json_is_strict_and_what_was_there_stays(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"AP": [0.25, None], "name": "größe"}, indent=1)
    assert json.loads(path.read_text()) == {"AP": [0.25, None], "name": "größe"}
    assert len(path.read_text().splitlines()) > 1
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"AP": math.nan})
    assert json.loads(path.read_text())["AP"] == [0.25, None]


def test_while_it_is_written_a_file_is_hidden_beside_its_place(tmp_path, monkeypatch):
    seen = []

    def replace(temporary, path):
        seen.append(temporary)
        os.replace(temporary, path)

    monkeypatch.setattr("pathlib.Path.replace", replace)
    write_atomically(tmp_path / "metrics.json", b"new")
    assert [(path.parent, path.name.startswith(".metrics.json.")) for path in seen] == [(tmp_path, True)]
    assert os.listdir(tmp_path) == ["metrics.json"]


def test_nan_becomes_null_at_every_depth():
    assert null_for_nan({"a": (1.0, math.nan), "b": {"c": math.nan, "d": "nan"}}) == {
        "a": [1.0, None],
        "b": {"c": None, "d": "nan"},
    }


def test_a_link_is_replaced_and_not_followed(tmp_path):
    precious, path = tmp_path / "precious", tmp_path / "metrics.json"
    precious.write_text("mine")
    path.symlink_to(precious)
    write_atomically(path, b"new")
    assert precious.read_text() == "mine" and path.read_bytes() == b"new" and not path.is_symlink()
    path.unlink()
    path.symlink_to(precious)
    with refused("metrics.json$", kind=WriteError):
        Appending(path)
    assert precious.read_text() == "mine"


def test_a_disk_that_becomes_full_is_named_with_its_remedy(tmp_path, monkeypatch):
    file = Appending(tmp_path / "log")
    file.write(b"one\n")
    room = [2]

    def write(handle, data, original=os.write):
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(handle, data[: room.pop()])

    monkeypatch.setattr(os, "write", write)
    with refused("log$", "No space left", WriteError) as caught:
        file.write(b"two\n")
    assert caught.value.remedy == "free space"
    assert (tmp_path / "log").read_bytes() == b"one\ntw"
    file.close()


def test_a_name_that_is_not_used_yet(tmp_path):
    for expected in ("a", "a-2", "a-3"):
        assert unused_path(tmp_path / "a") == tmp_path / expected
        (tmp_path / expected).symlink_to(tmp_path / "nowhere")
