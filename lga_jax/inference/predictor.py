"""What predict.py does: detections of a user's images as COCO results and as pictures."""

import itertools
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict
from tqdm import tqdm

from lga_jax.data.batches.loader import EvalLoader
from lga_jax.data.folder import ImageFiles, find_images
from lga_jax.drawing.pictures import draw_detections
from lga_jax.errors import UserError
from lga_jax.files import make_folder, write_json
from lga_jax.inference.coco_results import count_non_finite, to_coco
from lga_jax.inference.compilation import compile_ahead
from lga_jax.inference.step import Located, PredictStep, locate, lower_predictions, make_predict_step
from lga_jax.models.build import build_detector

_SHOWN = (".jpg", ".jpeg", ".png")  # formats in which a picture is written
_WAITING = 8  # pictures a thread: when more wait to be written, the next batch waits too


def predict(
    manifest: Mapping[str, Any],
    variables: Mapping[str, Any],
    place: str,
    output: str,
    *,
    score_threshold: float,
    batch_size: int,
    pictures: bool,
) -> None:
    """Detects objects with score at least score_threshold in the image or folder `place` with a restored model.

    Writes output/detections.json and, with `pictures`, a picture of each image. `batch_size` images pass the network
    together, on each device. Files of a folder that cannot be read are named in the UserError that ends the call, after
    the others are written.
    """
    config = config_of(manifest)
    detector = build_detector(config.model, len(manifest["class_names"]))
    inference = config.inference.to_dict() | {"score_threshold": score_threshold}
    step = make_predict_step(detector, inference)
    predict_images(step, variables, manifest, config.data, place, output, batch_size=batch_size, pictures=pictures)


def predict_images(
    predict_step: PredictStep,
    variables: Mapping[str, Any],
    manifest: Mapping[str, Any],
    data_config: ConfigDict,
    place: str,
    output: str,
    *,
    batch_size: int,
    pictures: bool,
) -> None:
    """`predict` with any predict step; of the manifest it uses 'class_names' and 'category_ids'.

    While the devices work on a batch, threads decode the next ones and others write the pictures of the last.
    """
    paths = find_images(place)
    source = ImageFiles(paths, manifest["class_names"])
    if not source.records:
        raise _unreadable(source, paths)
    _check_free(output)
    targets = [Path(output, name) for name in picture_names(source.paths)]
    results, non_finite = [], 0
    written: deque[Future] = deque()
    loader = EvalLoader(source, data_config, batch_size * jax.device_count(), jax.local_devices())
    bar = tqdm(total=len(source.records), desc="predicting", unit="image", disable=Path(place).is_file())
    with closing(loader), ThreadPoolExecutor(data_config.num_workers) as writers, bar:
        compile_ahead(lower_predictions(predict_step, variables, loader))
        for located in locate(predict_step, variables, loader):
            non_finite += count_non_finite(located.detections)
            for index, found in _per_image(located, source, manifest["category_ids"]):
                target = targets[index] if pictures else None
                written.append(writers.submit(_write_picture, source, index, found, manifest, target))
            while written and (written[0].done() or len(written) > _WAITING * data_config.num_workers):
                results += written.popleft().result()
                bar.update()
        for picture in written:
            results += picture.result()
            bar.update()
    if len(source.unreadable) == len(paths):
        raise _unreadable(source, paths)
    results.sort(key=lambda result: result["image_id"])  # stable: the best of an image stays first
    make_folder(output)  # not before there is something to put into it
    write_json(Path(output) / "detections.json", results)
    print(f"{len(results)} objects in {len(paths) - len(source.unreadable)} images, written to {output}")
    if non_finite:
        print(f"WARNING: {non_finite} detections were not finite and are left out: has the model diverged?")
    if source.unreadable:
        raise _unreadable(source, paths)


def config_of(manifest: Mapping[str, Any]) -> ConfigDict:
    """The config of a run; its tuples, which JSON knows only as lists, are tuples again."""
    return ConfigDict(_with_tuples(manifest["config"]))


def picture_names(paths: Sequence[Path]) -> list[str]:
    """The file names of the images' pictures: their own, or with .png after it where browsers might not show a format.

    No two are equal: beside an a.bmp.png, the picture of a.bmp becomes a.bmp_.png.
    """
    names = {path: path.name for path in paths if path.suffix.lower() in _SHOWN}
    taken = set(names.values())
    for path in paths:
        if path not in names:
            with_png = (f"{path.name}{'_' * count}.png" for count in itertools.count())
            names[path] = next(name for name in with_png if name not in taken)
            taken.add(names[path])
    return [names[path] for path in paths]


def _per_image(located: Located, source: ImageFiles, category_ids: Sequence[int]) -> Iterator[tuple[int, list[dict]]]:
    for row, index in enumerate(located.index.tolist()):
        if index >= 0:
            record = source.records[index]
            found = to_coco(
                jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], located.detections),
                located.scale_hw[row : row + 1],
                np.array([[record.height, record.width]]),
                [record.image_id],
                category_ids,
            )
            yield index, found


def _write_picture(
    source: ImageFiles, index: int, found: Sequence[dict], manifest: Mapping[str, Any], target: Path | None
) -> list[dict]:
    """The image's results with its file name and their class names; none where its pixels do not decode.

    Without a target no picture is drawn.
    """
    path = source.paths[index]
    if path in source.unreadable:
        return []
    names = dict(zip(manifest["category_ids"], manifest["class_names"], strict=True))
    if target:
        _save_picture(draw_detections(source.image(index), found, names), target)
    return [result | {"file_name": path.name, "category_name": names[result["category_id"]]} for result in found]


def _save_picture(picture: UInt8[np.ndarray, "h w 3"], target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)  # not before there is something to put into it
        quality = [] if target.suffix.lower() == ".png" else [cv2.IMWRITE_JPEG_QUALITY, 92]
        written = cv2.imwrite(str(target), picture[..., ::-1], quality)
    except OSError:
        written = False
    if not written:
        raise UserError(
            "--output",
            expected=f"to write {target}",
            found="that it failed",
            remedy="free space or name another folder",
        )


def _check_free(output: str) -> None:
    path = Path(output)
    if path.is_file():
        raise UserError(
            f"--output {output}",
            expected="a folder",
            found="a file",
            remedy="name another one",
        )
    if path.is_dir() and any(path.iterdir()):
        raise UserError(
            f"--output {output}",
            expected="a new or empty folder",
            found="files in it",
            remedy="name another one",
        )


def _unreadable(source: ImageFiles, paths: Sequence[Path]) -> UserError:
    if len(paths) == 1:
        return source.unreadable[paths[0]]
    names = ", ".join(path.name for path in list(source.unreadable)[:5])
    more = ", ..." if len(source.unreadable) > 5 else ""
    return UserError(
        "--input",
        expected="images",
        found=f"{len(source.unreadable)} of {len(paths)} files that cannot be read ({names}{more})",
        remedy="replace or remove them (what can be read is done)",
    )


def _with_tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_tuples(entry) for key, entry in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
