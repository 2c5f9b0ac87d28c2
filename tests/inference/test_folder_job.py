"""Prediction on a user's files, with a stand-in that finds one object in the middle of every image."""

import errno
import json
import os

import cv2
import numpy as np
import pytest

from lga_jax.drawing.close_ups import SIDE
from lga_jax.errors import UserError
from lga_jax.files import WriteError
from lga_jax.inference.folder_job import picture_names, predict_folder
from tests.faults import fail_writing, refused
from tests.inference.stand_in import MiddleStep, predictor_of


def run(place, output, batch_size=1, pictures=True, score_threshold=0.5, **settings):
    step = MiddleStep()
    with predictor_of(step) as model:
        predict_folder(
            model,
            str(place),
            str(output),
            score_threshold=score_threshold,
            batch_size=batch_size,
            pictures=pictures,
            **settings,
        )
    return step


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, hw in (("b.png", (40, 80)), ("a.jpg", (160, 120)), ("c.bmp", (32, 32))):
        cv2.imwrite(str(folder / name), np.full((*hw, 3), 60, np.uint8))
    (folder / "notes.txt").write_text("no image")
    (folder / "._b.png").write_text("a companion of macOS")
    (folder / "more").mkdir()
    return folder


def test_close_ups_are_added_below_the_picture(photos, tmp_path):
    run(photos, tmp_path / "plain")
    run(photos, tmp_path / "closer", close_ups=True)
    for name in ("a.jpg", "b.png", "c.bmp.png"):
        plain, closer = (cv2.imread(str(tmp_path / folder / name)) for folder in ("plain", "closer"))
        assert closer.shape[0] > plain.shape[0] + SIDE and closer.shape[1] == plain.shape[1]
        if name.endswith(".png"):
            np.testing.assert_array_equal(closer[: len(plain)], plain)


def test_a_folder_gives_a_json_and_a_picture_of_each_image(photos, tmp_path, capsys):
    run(photos, tmp_path / "out" / "deep")
    out = tmp_path / "out" / "deep"
    assert sorted(path.name for path in out.iterdir()) == ["a.jpg", "b.png", "c.bmp.png", "detections.json"]
    results = json.loads((out / "detections.json").read_text())
    assert [(r["image_id"], r["file_name"]) for r in results] == [(1, "a.jpg"), (2, "b.png"), (3, "c.bmp")]
    assert {(r["category_id"], r["category_name"], r["score"]) for r in results} == {(7, "mixer", 0.75)}
    np.testing.assert_allclose(
        [r["bbox"] for r in results], [[30, 40, 60, 80], [20, 10, 40, 20], [8, 8, 16, 16]], atol=0.1
    )
    np.testing.assert_allclose(results[0]["mask_centres"], [[60, 80]], atol=0.1)
    assert cv2.imread(str(out / "b.png")).shape[:2] > (160, 320)
    printed = capsys.readouterr().out
    assert "3 objects in 3 images" in printed
    assert "left out: 1 file without the content of an image (notes.txt), 1 folder (more)" in printed


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("name", ["b.png", "detections.json"])
def test_a_disk_that_takes_no_more_is_one_error_and_only_whole_files_are_left(
    photos, tmp_path, monkeypatch, name, number
):
    with monkeypatch.context() as patch:
        fail_writing(patch, name, number)
        with refused(f"{tmp_path / 'out' / name}$", os.strerror(number), WriteError):
            run(photos, tmp_path / "out")
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert set(left) <= {"a.jpg", "b.png", "c.bmp.png"} - {name}
    run(photos, tmp_path / "again")
    for file in left:
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_throughput_mode_finds_the_same_and_draws_nothing(photos, tmp_path):
    for number in range(40):  # more than may wait to be written
        cv2.imwrite(str(photos / f"more_{number:02}.png"), np.full((40, 80, 3), number, np.uint8))
    (photos / "half.png").write_bytes((photos / "b.png").read_bytes()[:40])  # a header, no pixels
    found = []
    for options in (dict(), dict(batch_size=2, pictures=False)):
        out = tmp_path / str(len(found))
        with pytest.raises(UserError) as caught:
            run(photos, out, **options)
        assert caught.value.subject == "--input"
        assert "1 of 44 " in caught.value.found and "(half.png)" in caught.value.found
        found.append(json.loads((out / "detections.json").read_text()))
        assert len(list(out.iterdir())) == (1 if options else 44)
    assert found[0] == found[1]


def test_each_bucket_is_compiled_before_the_first_batch(photos, tmp_path):
    lowered = run(photos, tmp_path / "out", batch_size=3).lowered
    assert sorted(lowered) == [(3, 64, 96), (3, 96, 64)]


def test_one_image_without_a_progress_bar(photos, tmp_path, capsys):
    run(photos / "b.png", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b.png", "detections.json"]
    assert "predicting" not in capsys.readouterr().err


def test_files_that_cannot_be_read_are_named_after_the_others_are_done(photos, tmp_path, capsys):
    (photos / "bad.jpg").write_bytes(b"\xff\xd8 no image at all")
    whole = (photos / "b.png").read_bytes()
    (photos / "half.png").write_bytes(whole[:40])  # a header, no pixels
    with pytest.raises(UserError) as caught:
        run(photos, tmp_path / "out")
    assert caught.value.subject == "--input"
    assert "2 of 5 " in caught.value.found and "(bad.jpg, half.png)" in caught.value.found
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["a.jpg", "b.png", "c.bmp.png", "detections.json"]
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())) == 3


@pytest.mark.parametrize(
    "data", [b"", b"no image", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x20\x00\x00\x00\x20"]
)
def test_the_only_image_that_cannot_be_read_is_named_and_nothing_is_written(tmp_path, data):
    (tmp_path / "photo.png").write_bytes(data)
    with pytest.raises(UserError) as caught:
        run(tmp_path / "photo.png", tmp_path / "out")
    assert caught.value.subject == str(tmp_path / "photo.png")
    assert not (tmp_path / "out").exists()


def test_missing_and_empty_input(tmp_path):
    for place in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError) as caught:
            run(place, tmp_path / "out")
        assert caught.value.subject == f"--input {place}"


def test_nothing_that_exists_is_overwritten(photos, tmp_path):
    (tmp_path / "file").write_text("mine")
    for output in (tmp_path / "file", photos):
        with pytest.raises(UserError) as caught:
            run(photos, output)
        assert caught.value.subject == f"--output {output}"
    (tmp_path / "empty").mkdir()
    run(photos, tmp_path / "empty")
    before = (tmp_path / "empty" / "detections.json").read_text()
    with pytest.raises(UserError) as caught:
        run(photos / "b.png", tmp_path / "empty")
    assert caught.value.subject == f"--output {tmp_path / 'empty'}"
    assert (tmp_path / "empty" / "detections.json").read_text() == before


def test_pictures_never_share_a_name(tmp_path):
    names = ["a.bmp", "a.bmp.png", "a.bmp_.png", "a.png", "a.bmp__", "a.jpg", "a.JPEG", "a.webp", "a.tif"]
    for order in (names, names[::-1]):
        given = picture_names([tmp_path / name for name in order])
        assert len(set(given)) == len(names)
        assert [mine for mine in given if mine in names] == [n for n in order if n.endswith(("png", "jpg", "JPEG"))]
    assert picture_names([tmp_path / "a.bmp", tmp_path / "a.webp"]) == ["a.bmp.png", "a.webp.png"]


def test_an_image_named_like_the_picture_of_another_keeps_its_own(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.bmp"), np.full((20, 20, 3), 10, np.uint8))
    cv2.imwrite(str(folder / "a.bmp.png"), np.full((20, 40, 3), 200, np.uint8))
    run(folder, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.bmp.png", "a.bmp_.png", "detections.json"]
    dark, bright = (cv2.imread(str(tmp_path / "out" / name)) for name in ("a.bmp_.png", "a.bmp.png"))
    assert np.median(dark) < 100 < np.median(bright)


def test_names_that_are_not_utf_8_have_their_pictures(photos, tmp_path, capsys):
    name = os.fsdecode(b"caf\xe9.png")
    os.rename(photos / "b.png", photos / name)
    run(photos, tmp_path / "out")
    assert cv2.imdecode(np.frombuffer((tmp_path / "out" / name).read_bytes(), np.uint8), 1) is not None
    results = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert name in {result["file_name"] for result in results}


def test_objects_below_the_threshold_are_left_out(photos, tmp_path):
    run(photos, tmp_path / "out", score_threshold=0.76)  # each object has 0.75
    assert json.loads((tmp_path / "out" / "detections.json").read_text()) == []
    run(photos, tmp_path / "all", score_threshold=0.75)
    assert len(json.loads((tmp_path / "all" / "detections.json").read_text())) == 3
