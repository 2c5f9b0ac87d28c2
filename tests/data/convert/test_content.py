"""COCO's lists of converted annotations."""

from pathlib import Path

import pytest

from lga_jax.data.coco.faults import find_faults
from lga_jax.data.convert.content import AnnotatedImage, Box, images_in, read_text, to_content
from lga_jax.errors import UserError


def test_ids_count_from_one_and_names_are_relative():
    images = [
        AnnotatedImage(Path("set/a.jpg"), (20, 30), []),
        AnnotatedImage(Path("set/sub/b.jpg"), (5, 6), [Box(1, (1, 2, 3, 4)), Box(0, (0, 0, 1, 1), crowd=True)]),
    ]
    content = to_content(images, Path("set"), ["cat", "dog"])
    assert list(find_faults(content)) == []
    assert content["images"][1] == {"id": 2, "file_name": "sub/b.jpg", "height": 5, "width": 6}
    assert [(a["image_id"], a["category_id"], a["area"], a["iscrowd"]) for a in content["annotations"]] == [
        (2, 2, 12, 0),
        (2, 1, 1, 1),
    ]


def test_images_are_found_in_sub_folders_in_order(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.JPG", "a.txt", "sub/c.png"):
        (tmp_path / name).touch()
    assert [path.name for path in images_in(tmp_path)] == ["b.JPG", "c.png"]
    with pytest.raises(UserError) as caught:
        images_in(tmp_path / "nowhere")
    assert caught.value.subject == str(tmp_path / "nowhere")


def test_texts_that_cannot_be_read_are_the_users_error(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf0 1")
    assert read_text(tmp_path / "a.txt") == "0 1"
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe0")
    for name in ("b.txt", "c.txt"):
        with pytest.raises(UserError) as caught:
            read_text(tmp_path / name)
        assert caught.value.subject == str(tmp_path / name)
