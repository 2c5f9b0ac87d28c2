import numpy as np
import pytest

from lga_jax.data.augment.transform import apply_transform, find_transform
from lga_jax.errors import UserError

IMAGE = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
BOXES = np.array([[1, 1, 4, 5], [2, 0, 8, 6]], np.float32)
LABELS = np.array([0, 2], np.int32)


def _apply(function, boxes: np.ndarray = BOXES, labels: np.ndarray = LABELS) -> tuple:
    return apply_transform(function, (IMAGE, boxes, labels), np.random.default_rng(0), 3, "a.png")


def test_what_it_returns_is_the_sample():
    def mirror(image, boxes, labels, rng):
        x1, y1, x2, y2 = boxes.T
        return image[:, ::-1], np.stack([8 - x2, y1, 8 - x1, y2], axis=1), labels

    image, boxes, labels = _apply(mirror)
    np.testing.assert_array_equal(image, IMAGE[:, ::-1])
    np.testing.assert_array_equal(boxes, [[4, 1, 7, 5], [0, 0, 6, 6]])
    assert (boxes.dtype, labels.tolist()) == (np.float32, [0, 2])


def test_it_may_change_its_arguments_and_return_lists_or_nothing():
    def spoil(image, boxes, labels, rng):
        image[:], boxes[:], labels[:] = 0, 0, 0
        return [image, [(0, 0, 8.5, 6), [1, 2, 3, 4]], [1, 2]]

    image, boxes, labels = _apply(spoil)
    assert not image.any() and IMAGE.any() and BOXES.all(axis=0).any()
    assert boxes.tolist() == [[0, 0, 8, 6], [1, 2, 3, 4]] and labels.tolist() == [1, 2]  # half a pixel is clipped
    for nothing in ([], np.zeros((0, 4))):
        _, boxes, labels = _apply(lambda image, b, k, rng, nothing=nothing: (image, nothing, []))
        assert boxes.shape == (0, 4) and labels.shape == (0,) and labels.dtype == np.int32


@pytest.mark.parametrize(
    ("function", "expected", "found"),
    [
        (lambda image, boxes, labels, rng: None, "(image, boxes, labels)", "None"),
        (lambda image, boxes, labels, rng: (image, boxes), "(image, boxes, labels)", "a tuple of 2"),
        (lambda image, boxes, labels, rng: (image / 255, boxes, labels), "uint8", "float64"),
        (lambda image, boxes, labels, rng: (image[:4], boxes, labels), "(6, 8, 3)", "(4, 8, 3)"),
        (lambda image, boxes, labels, rng: (image, boxes[:, :3], labels), "(n, 4)", "(2, 3)"),
        (lambda image, boxes, labels, rng: (image, [[1, 2, 3], [4]], labels), "(n, 4)", "a list of 2"),
        (lambda image, boxes, labels, rng: (image, [["1", "1", "2", "2"]], labels), "(n, 4)", "a list of 1"),
        (lambda image, boxes, labels, rng: (image, boxes + 3, labels), "8 x 6 pixels", "(4, 4, 7, 8)"),
        (lambda image, boxes, labels, rng: (image, boxes * np.nan, labels), "8 x 6 pixels", "nan"),
        (lambda image, boxes, labels, rng: (image, boxes[:, [2, 1, 0, 3]], labels), "8 x 6 pixels", "(4, 1, 1, 5)"),
        (lambda image, boxes, labels, rng: (image, boxes, labels[:1]), "2 labels", "(1,)"),
        (lambda image, boxes, labels, rng: (image, boxes, labels * 1.0), "2 labels", "float64"),
        (lambda image, boxes, labels, rng: (image, boxes, labels + 1), "0 to 2", "3"),
        (lambda image, boxes, labels, rng: 1 / 0, "a result", "ZeroDivisionError"),
    ],
)
def test_a_faulty_result_is_one_line_with_the_name_of_the_image(function, expected, found):
    with pytest.raises(UserError) as caught:
        _apply(function)
    assert caught.value.subject == "data.transform"
    assert expected in caught.value.expected
    assert found in caught.value.found and caught.value.found.endswith(", for a.png")
    assert "\n" not in str(caught.value)


def test_a_function_is_found_in_a_file_and_in_a_module(tmp_path):
    (tmp_path / "own.py").write_text(
        "offset = 3\n\ndef shift(image, boxes, labels, rng):\n    return image, boxes + offset, labels\n"
    )
    found = find_transform(f"{tmp_path / 'own.py'}:shift")
    assert found(None, 1, None, None) == (None, 4, None)
    assert find_transform("numpy:concatenate") is np.concatenate
    for name, fault in (("absent", "no such name"), ("offset", "int")):
        with pytest.raises(UserError) as caught:
            find_transform(f"{tmp_path / 'own.py'}:{name}")
        assert caught.value.subject == "data.transform" and fault in caught.value.found


@pytest.mark.parametrize(
    ("text", "found"),
    [("import nothing_of_this_name", "nothing_of_this_name', line 1"), ("x = (", "line 1"), ("exit(3)", "SystemExit")],
)
def test_a_file_that_cannot_be_run_is_one_line(tmp_path, text, found):
    (tmp_path / "own.py").write_text(text)
    with pytest.raises(UserError) as caught:
        find_transform(f"{tmp_path / 'own.py'}:shift")
    assert caught.value.subject == "data.transform" and found in caught.value.found
    with pytest.raises(UserError):
        find_transform(f"{tmp_path / 'absent.py'}:shift")


def test_the_line_of_an_exception_is_named(tmp_path):
    (tmp_path / "own.py").write_text("def broken(image, boxes, labels, rng):\n    return labels[99]\n")
    with pytest.raises(UserError) as caught:
        _apply(find_transform(f"{tmp_path / 'own.py'}:broken"))
    assert "IndexError" in caught.value.found and caught.value.found.endswith("line 2, for a.png")
