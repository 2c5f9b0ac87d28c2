import io
import os
import struct
import zipfile

import numpy as np
import pytest

from lga_jax import archives
from lga_jax.archives import open_archive, read_arrays, unpacked_bytes


def read(path):
    with open_archive(path) as archive:
        return read_arrays(archive)


def written(path, members, compression=zipfile.ZIP_STORED, comment=b""):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.comment = comment
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def header(text, version=(1, 0)):
    """The start of an .npy file with any header."""
    data = text.encode()
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", len(data)) + data


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">f4").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.zeros((0, 3), np.int64),
        np.array(2.5),
        np.array([True, False]),
        np.array(["a", "längst"]),
    ],
)
def test_arrays_equal_numpys(tmp_path, save, array):
    save(tmp_path / "a.npz", array=array, other=np.ones(2))
    found = read(tmp_path / "a.npz")
    assert found.keys() == {"array", "other"} and found["array"].dtype == array.dtype
    np.testing.assert_array_equal(found["array"], array)


def test_arrays_of_other_types_are_left_out(tmp_path):
    np.savez(tmp_path / "a.npz", raw=np.array([b"ab"]), record=np.zeros(2, [("x", "f4")]), a=np.ones(1))
    assert read(tmp_path / "a.npz").keys() == {"a"}


CLAIMS = {
    "a huge shape": "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }",
    "a huge product": "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }",
    "a negative side": "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
    "a huge type": "{'descr': '<U500000000', 'fortran_order': False, 'shape': (1,), }",
    "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
    "brackets": "(" * 9000,
    "signs": "-" * 9000 + "1",
    "a long header": "{'descr': '<f4'}" + " " * 20_000,
    "no header": "",
}


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0), (9, 9)])
@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_headers_are_not_believed(tmp_path, claim, version):
    path = written(tmp_path / "a.npz", {"a.npy": header(claim, version) + bytes(4)})
    with pytest.raises(ValueError, match=r"."):
        read(path)


def test_an_archive_unpacks_to_a_bounded_size(tmp_path, monkeypatch):
    path = written(tmp_path / "a.npz", {"a": bytes(10**6)}, zipfile.ZIP_DEFLATED)
    with open_archive(path) as archive:
        assert unpacked_bytes(archive) == 10**6
    monkeypatch.setattr(archives, "SMALL", 10**5)
    with pytest.raises(ValueError, match="100 bytes for each"):
        read(path)
    read(
        written(tmp_path / "b.npz", {"a.npy": header(CLAIMS["a huge shape"].replace("1099511627776", "1")) + bytes(4)})
    )


def test_a_member_gives_no_more_than_the_list_says(tmp_path):
    path = written(tmp_path / "a.zip", {"a": bytes(1000)}, zipfile.ZIP_DEFLATED)
    whole = path.read_bytes()
    at = whole.index(b"PK\x01\x02") + 24
    path.write_bytes(whole[:at] + struct.pack("<I", 10) + whole[at + 4 :])
    with open_archive(path) as archive, pytest.raises(zipfile.BadZipFile):
        archive.read("a")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(tmp_path, compression):
    """LZMA would allocate a dictionary of up to 4 GiB."""
    with pytest.raises(ValueError, match="stored or deflated"):
        read(written(tmp_path / "a.npz", {"a": b"a"}, compression))


def test_encrypted_members_are_refused(tmp_path):
    path = written(tmp_path / "a.npz", {"a": b"a"})
    whole = path.read_bytes()
    at = whole.index(b"PK\x01\x02") + 8
    path.write_bytes(whole[:at] + b"\x01" + whole[at + 1 :])
    with pytest.raises(ValueError, match="not encrypted"):
        read(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_repeated_names_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    with pytest.raises(ValueError, match="once"):
        read(tmp_path / "a.npz")


@pytest.mark.parametrize("comment", [b"", b"a comment"])
def test_a_long_list_of_members_is_refused(tmp_path, monkeypatch, comment):
    path = written(tmp_path / "a.zip", {f"{number:04}": b"" for number in range(100)}, comment=comment)
    with open_archive(path) as archive:
        assert len(archive.namelist()) == 100
    monkeypatch.setattr(archives, "MAX_DIRECTORY", 4000)
    with pytest.raises(ValueError, match="list of members"):
        read(path)


def test_the_list_of_a_large_archive(tmp_path, monkeypatch):
    path = tmp_path / "a.zip"
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 10)  # writes the record for large archives
    written(path, {f"{number:04}": b"" for number in range(100)})
    assert b"PK\x06\x06" in path.read_bytes()
    with open_archive(path) as archive:
        assert len(archive.namelist()) == 100
    monkeypatch.setattr(archives, "MAX_DIRECTORY", 4000)
    with pytest.raises(ValueError, match="list of members"):
        read(path)


@pytest.mark.parametrize("data", [b"", b"PK\x05\x06", b"no archive" * 10])
def test_files_that_are_no_archives(tmp_path, data):
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(zipfile.BadZipFile):
        read(tmp_path / "a.zip")


def test_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="pipe"):
        read(tmp_path / "a.npz")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.npz")


def test_an_archive_in_memory(tmp_path):
    content = io.BytesIO()
    np.savez(content, a=np.arange(4))
    assert read(content)["a"].tolist() == [0, 1, 2, 3]


def test_each_prefix_is_refused(tmp_path):
    content = io.BytesIO()
    np.savez(content, a=np.arange(4))
    for end in range(len(content.getvalue())):
        (tmp_path / "a.npz").write_bytes(content.getvalue()[:end])
        with pytest.raises((ValueError, zipfile.BadZipFile)):
            read(tmp_path / "a.npz")


def test_names_that_leave_a_folder_are_only_names(tmp_path):
    """Nothing is unpacked to disk."""
    (tmp_path / "in").mkdir()
    content = io.BytesIO()
    np.save(content, np.ones(2))
    path = written(tmp_path / "in" / "a.npz", {"../out.npy": content.getvalue(), "/tmp/out.npy": content.getvalue()})
    assert read(path).keys() == {"../out", "/tmp/out"}
    assert {file.name for file in tmp_path.rglob("*")} == {"in", "a.npz"}
