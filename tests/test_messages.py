"""The sentences of the faults that users meet most, as one golden file to read.

Other tests look at the fields of an error; the wording stands here alone. After an intended change:

    python -m tests.test_messages
"""

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from lga_jax.checkpoints.manifest import FORMAT, check_classes, check_format, recipe_of
from lga_jax.checkpoints.read import parse_step, restore_params
from lga_jax.data.augment.transform import apply_transform
from lga_jax.data.batches.loader import EvalLoader
from lga_jax.data.challenge.source import Challenge, export
from lga_jax.data.coco.source import CocoJson
from lga_jax.data.decode import decode_image, read_image_file
from lga_jax.data.faulty import check_data, check_masks
from lga_jax.data.folder import find_images
from lga_jax.data.tfds.store import find_folder
from lga_jax.errors import UserError
from lga_jax.files import make_folder
from lga_jax.memory import Free, out_of_memory, too_large
from lga_jax.recipe import check, load, override
from lga_jax.weights.files import read_weights
from lga_jax.weights.layouts import recognise

GOLDEN = Path(__file__).parent / "golden" / "messages.txt"
_IMAGE = {"id": 1, "file_name": "a.png", "height": 6, "width": 8}
_CATEGORY = {"id": 1, "name": "car"}
_BOX = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 3]}


def _coco(
    root: Path, images=(_IMAGE,), categories=(_CATEGORY,), annotations=(_BOX,), skip_empty=False, more=()
) -> CocoJson:
    (root / "images").mkdir()
    for name in ("a.png", *more):
        Image.new("RGB", (8, 6)).save(root / "images" / name)
    content = {"images": images, "categories": categories, "annotations": annotations}
    (root / "all.json").write_text(
        json.dumps({key: list(value) for key, value in content.items() if value is not None})
    )
    return CocoJson(str(root), "all.json", "images", skip_empty)


_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n"


def _text_as_annotations(root: Path, text: str = "id,file_name\n") -> None:
    (root / "images").mkdir()
    (root / "all.json").write_text(text)
    CocoJson(str(root), "all.json", "images", skip_empty=False)


def _check(source: CocoJson) -> None:
    check_data("data.eval", source, load("coco_json").data)


def _pointers(root: Path) -> None:
    source = _coco(root)
    (root / "images" / "a.png").write_text(_POINTER)
    _check(source)


def _recipe(name: str, **changes: str) -> None:
    config = load(name)
    override(config, {key.replace("__", "."): value for key, value in changes.items()})
    check(config)


def _export_into(root: Path) -> None:
    (root / "mine.txt").touch()
    export(Challenge(1), root)


def _folder_over(root: Path) -> None:
    (root / "runs").touch()
    make_folder(root / "runs")


def _damaged_weights(root: Path) -> None:
    (root / "weights.npz").write_bytes(b"no archive")
    read_weights(str(root / "weights.npz"))


def _changed_classes() -> None:
    check_classes({"class_names": ["car", "bus"]}, ("car", "ship"), "runs/mine, step 100")


def _batch_of_five() -> None:
    devices = [jax.local_devices()[0]] * 4
    EvalLoader(Challenge(1), load("challenge").data, 5, devices, 0, 1)


def _dangerous_pickle(root: Path) -> None:
    (root / "weights.pkl").write_bytes(b"cposix\nsystem\n(X\x02\0\0\0lstR.")
    read_weights(str(root / "weights.pkl"))


def _float_image(highest: float) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.full((2, 2), highest, np.float32)).save(stream, "TIFF")
    decode_image(stream.getvalue(), "photos/a.tif")


def _recipe_of_a_stranger() -> None:
    config = json.loads(load("coco").to_json())
    config["data"]["buckets"] = [[13000, 13000]]
    recipe_of({"config": config}, "runs/theirs, step 100")


def _transformed(function: Callable) -> None:
    sample = np.zeros((6, 8, 3), np.uint8), np.array([[1, 1, 3, 4]], np.float32), np.zeros(1, np.int32)
    apply_transform(function, sample, np.random.default_rng(0), 1, "a.png")


def _raise(error: UserError) -> None:
    raise error


# What the user did -> code that meets it, in a new folder.
TRIGGERS: dict[str, Callable[[Path], object]] = {
    "the data folder does not exist": lambda root: CocoJson(str(root / "data"), "all.json", "images", False),
    "the annotation file does not exist": lambda root: CocoJson(str(root), "all.json", "images", False),
    "the annotation file is not JSON": _text_as_annotations,
    "the annotation file is empty": lambda root: _text_as_annotations(root, ""),
    "the annotation file is a git-lfs pointer": lambda root: _text_as_annotations(root, _POINTER),
    "the annotation file is cut": lambda root: _text_as_annotations(root, '{"images": [{"id": 1, "fi'),
    "the annotation file has no categories": lambda root: _coco(root, categories=None),
    "the annotation file lists no images": lambda root: _coco(root, images=()),
    "an image has no size": lambda root: _coco(root, images=[{"id": 1, "file_name": "a.png"}]),
    "an image file is missing": lambda root: _coco(root, images=[_IMAGE, _IMAGE | {"id": 2, "file_name": "b.png"}]),
    "an image lies outside the image folder": lambda root: _coco(root, images=[_IMAGE | {"file_name": "../a.png"}]),
    "an image is on another computer": lambda root: _coco(root, images=[_IMAGE | {"file_name": "/photos/a.png"}]),
    "an image is a URL": lambda root: _coco(root, images=[_IMAGE | {"file_name": "http://host/a.png"}]),
    "two files fit the name of an image": lambda root: _coco(
        root, images=[_IMAGE | {"file_name": "a.PNG"}], more=("a.Png",)
    ),
    "lists of verified classes in some images only": lambda root: _coco(
        root,
        images=[
            _IMAGE | {"neg_category_ids": [], "not_exhaustive_category_ids": []},
            _IMAGE | {"id": 2, "file_name": "b.png"},
        ],
        more=("b.png",),
    ),
    "two images have the same id": lambda root: _coco(root, images=[_IMAGE, _IMAGE]),
    "a category id is a word": lambda root: _coco(root, categories=[{"id": "car", "name": "car"}]),
    "a category is not listed": lambda root: _coco(root, annotations=[_BOX | {"category_id": 2}]),
    "an annotation's image is not listed": lambda root: _coco(root, annotations=[_BOX, _BOX | {"image_id": 2}]),
    "a bbox has three numbers": lambda root: _coco(root, annotations=[_BOX | {"bbox": [1, 2, 3]}]),
    "no image was downloaded": _pointers,
    "the evaluation set has no boxes": lambda root: _check(_coco(root, annotations=())),
    "all boxes lie outside": lambda root: _check(_coco(root, annotations=[_BOX | {"bbox": [90, 1, 2, 3]}])),
    "the data have no masks for a mask head": lambda root: check_masks("data.train", _coco(root)),
    "iscrowd is 2": lambda root: _coco(root, annotations=[_BOX | {"iscrowd": 2}]),
    "no image has a box to train on": lambda root: _coco(root, annotations=(), skip_empty=True),
    "the annotated size is wrong": lambda root: _coco(root, images=[_IMAGE | {"width": 9}]).image(0),
    "an image file vanished": lambda root: read_image_file(root / "a.png"),
    "an image file is empty": lambda root: decode_image(b"", "photos/a.png"),
    "an image file is a git-lfs pointer": lambda root: decode_image(_POINTER.encode(), "photos/a.png"),
    "an image file is a web page": lambda root: decode_image(b"<html>404 not found</html>", "photos/a.png"),
    "a TFDS data set is not prepared": lambda root: find_folder("coco/2017", str(root)),
    "--input does not exist": lambda root: find_images(str(root / "photos")),
    "--input has no images": lambda root: find_images(str(root)),
    "the output folder is a file": _folder_over,
    "the challenge set is exported into a used folder": _export_into,
    "the recipe does not exist": lambda root: load("cocoo"),
    "a key is misspelt": lambda root: _recipe("coco", optim__learning_rate="0.1"),
    "a value has the wrong type": lambda root: _recipe("coco", num_steps="many"),
    "a choice does not exist": lambda root: _recipe("coco", model__attention="cabm"),
    "a probability is too large": lambda root: _recipe("coco", data__flip_probability="50"),
    "a preset of augmentation does not exist": lambda root: _recipe("coco", data__augment="storng"),
    "data.transform has no name of a function": lambda root: _recipe("coco", data__transform="own.py"),
    "the transform returns another type": lambda root: _transformed(lambda image, *others: (image / 255, *others[:2])),
    "the transform moves boxes out of the image": lambda root: _transformed(
        lambda image, boxes, labels, rng: (image, boxes + 9, labels)
    ),
    "a learning rate is negative": lambda root: _recipe("coco", optim__lr="-0.1"),
    "the devices do not divide the batch": lambda root: _batch_of_five(),
    "the workdir does not exist": lambda root: restore_params(str(root / "runs")),
    "--step is not a step": lambda root: parse_step("last"),
    "the data have other classes than the checkpoint": lambda root: _changed_classes(),
    "the checkpoint asks for a bucket of 13000 x 13000": lambda root: _recipe_of_a_stranger(),
    "a program needs more memory than is free": lambda root: _raise(
        too_large("training 800x1344", 9 * 2**30, Free(5 * 2**30, "ulimit -v"))
    ),
    "the memory is used up": lambda root: _raise(out_of_memory(MemoryError("std::bad_alloc"))),
    "an image has floats without a known range": lambda root: _float_image(4000.0),
    "the weights file could run code": _dangerous_pickle,
    "the checkpoint is newer than lga_jax": lambda root: check_format(
        {"format": FORMAT + 1, "version": "9.0"}, "runs/mine, step 100"
    ),
    "the weights file does not exist": lambda root: read_weights(str(root / "weights.npz")),
    "the weights file has another ending": lambda root: (
        (root / "weights.onnx").touch() or read_weights(str(root / "weights.onnx"))
    ),
    "the weights file is damaged": _damaged_weights,
    "hf:// has no file": lambda root: read_weights("hf://timm/resnet50.tv_in1k"),
    "the weights are of an unknown model": lambda root: recognise(
        "weights.npz", {"encoder.layers.0.linear1.weight": np.zeros((2, 2), np.float32)}
    ),
}


def message(trigger: str, root: Path) -> str:
    """The sentence that the user reads."""
    with pytest.raises(UserError) as caught:
        TRIGGERS[trigger](root)
    return str(caught.value).replace(str(root), "DIR")


def _lines(text: str) -> dict[str, str]:
    entries = (entry.split("\n    ") for entry in text.strip().split("\n\n"))
    return dict(entries)


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_the_sentence_is_as_reviewed(trigger, tmp_path):
    assert message(trigger, tmp_path) == _lines(GOLDEN.read_text()).get(trigger), "python -m tests.test_messages"


def test_every_sentence_has_a_trigger():
    assert list(_lines(GOLDEN.read_text())) == list(TRIGGERS)


if __name__ == "__main__":
    entries = []
    for trigger in TRIGGERS:
        with tempfile.TemporaryDirectory() as folder:
            entries.append(f"{trigger}\n    {message(trigger, Path(folder))}\n")
    GOLDEN.write_text("\n".join(entries))
    print(f"written: {GOLDEN}")
