"""Prediction on image files: writes detections as COCO results and as pictures."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from lga_jax.data.folder import ImageFiles, find_images
from lga_jax.drawing.close_ups import draw_close_ups
from lga_jax.drawing.pictures import draw_detections
from lga_jax.errors import UserError, counted, listed, printable
from lga_jax.files import check_free, make_folder, write_atomically, write_json
from lga_jax.inference.coco_results import count_non_finite, per_image
from lga_jax.inference.predictor import Predictor
from lga_jax.terminal import say

_SHOWN = (".jpg", ".jpeg", ".png")  # formats of pictures
_JPEG_QUALITY = 92
_Draw = Callable[[UInt8[np.ndarray, "h w 3"], Sequence[dict], Mapping[int, str]], UInt8[np.ndarray, "h2 w2 3"]]
_WAITING = 8  # pictures per thread: if more are unwritten, the next batch waits


def predict_folder(
    predictor: Predictor,
    place: str,
    output: str,
    *,
    score_threshold: float,
    batch_size: int,
    pictures: bool,
    close_ups: bool = False,
) -> None:
    """Detects objects with score at least score_threshold in the image or folder `place`.

    Writes output/detections.json and, with `pictures`, a picture of each image; `close_ups` adds a sheet of what the
    Gaussian masks look at. Each device processes `batch_size` images at a time; meanwhile threads decode the next
    images and write pictures of the previous ones. If files of a folder cannot be read, a UserError lists them after
    all others are written.
    """
    paths, left_out = find_images(place)
    source = ImageFiles(paths, predictor.class_names)
    if not source.records:
        raise _unreadable(source, paths)
    check_free(output)
    folder = Path(output) if pictures else None
    draw = _draw_with_close_ups if close_ups else draw_detections
    results, num_non_finite = _predict_and_draw(predictor, source, folder, draw, score_threshold, batch_size)
    if len(source.unreadable) == len(paths):
        raise _unreadable(source, paths)
    results.sort(key=lambda result: result["image_id"])  # stable: the highest score of an image stays first
    make_folder(output)  # after prediction, so that a failed run leaves no folder
    write_json(Path(output) / "detections.json", results)
    num_images = counted(len(paths) - len(source.unreadable), "image")
    found = f"{counted(len(results), 'object')} in {num_images} with a score of at least {score_threshold:g}"
    say(f"{found}, written to {output}")
    if left_out:
        say(_describe(left_out))
    if num_non_finite:
        found = counted(num_non_finite, "detection")
        say(f"WARNING: {found} without finite numbers omitted: has the model diverged?")
    if source.unreadable:
        raise _unreadable(source, paths)


def picture_names(paths: Sequence[Path]) -> list[str]:
    """File names of the pictures: the name of the image, with .png added to formats that browsers may not show.

    All names are different: if a.bmp.png exists, the picture of a.bmp is a.bmp_.png.
    """
    names = {path: path.name for path in paths if path.suffix.lower() in _SHOWN}
    taken = set(names.values())
    for path in paths:
        if path not in names:
            with_png = (f"{path.name}{'_' * count}.png" for count in itertools.count())
            names[path] = next(name for name in with_png if name not in taken)
            taken.add(names[path])
    return [names[path] for path in paths]


def _predict_and_draw(
    predictor: Predictor,
    source: ImageFiles,
    folder: Path | None,
    draw: _Draw,
    score_threshold: float,
    batch_size: int,
) -> tuple[list[dict], int]:
    """The results of all readable images, and the number of detections that were not finite."""
    targets = [folder and folder / name for name in picture_names(source.paths)]
    names = dict(zip(predictor.category_ids, predictor.class_names, strict=True))
    num_threads = predictor.recipe.data.num_workers
    batches = predictor.locate(source, score_threshold=score_threshold, batch_size=batch_size)
    bar = tqdm(total=len(source.records), desc="predicting", unit="image", disable=len(source.records) == 1)
    waiting: deque[Future] = deque()
    results, num_non_finite = [], 0
    with closing(batches), ThreadPoolExecutor(num_threads) as writers, bar:
        for located in batches:
            num_non_finite += count_non_finite(located.detections)
            for index, found in per_image(located, source.records, predictor.category_ids):
                kept = [result for result in found if result["score"] >= score_threshold]
                waiting.append(writers.submit(_write_picture, source, index, kept, names, draw, targets[index]))
            results += _written(waiting, bar, most=_WAITING * num_threads)
        results += _written(waiting, bar, most=0)
    return results, num_non_finite


def _written(waiting: deque[Future], bar: tqdm, most: int) -> Iterator[dict]:
    """Results of written pictures; waits while more than `most` pictures are unwritten."""
    while waiting and (waiting[0].done() or len(waiting) > most):
        yield from waiting.popleft().result()
        bar.update()


def _draw_with_close_ups(
    image: UInt8[np.ndarray, "h w 3"], found: Sequence[dict], names: Mapping[int, str]
) -> UInt8[np.ndarray, "h2 w2 3"]:
    picture = draw_detections(image, found, names)
    return np.concatenate([picture, draw_close_ups(image, found, names, picture.shape[1])])


def _write_picture(
    source: ImageFiles, index: int, found: Sequence[dict], names: Mapping[int, str], draw: _Draw, target: Path | None
) -> list[dict]:
    """The image's results with file name and class names; no results if its pixels cannot be decoded.

    Without a target no picture is drawn.
    """
    path = source.paths[index]
    if path in source.unreadable:
        return []
    if target:
        picture = _encode(draw(source.image(index), found, names), target.suffix.lower())
        make_folder(target.parent)
        write_atomically(target, picture)
    return [result | {"file_name": path.name, "category_name": names[result["category_id"]]} for result in found]


def _encode(picture: UInt8[np.ndarray, "h w 3"], suffix: str) -> bytes:
    # Encoded in memory, because OpenCV cannot write a file with a name that is not UTF-8.
    quality = [] if suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    return cv2.imencode(suffix, picture[..., ::-1], quality)[1].tobytes()


def _describe(left_out: Sequence[Path]) -> str:
    """'left out: 2 files that are not images (a.txt, b.csv), 1 folder (more)'."""
    folders = [path.name for path in left_out if path.is_dir()]
    files = [path.name for path in left_out if not path.is_dir()]
    parts = []
    if files:
        parts.append(f"{counted(len(files), 'file')} without the content of an image ({listed(files)})")
    if folders:
        parts.append(f"{counted(len(folders), 'folder')} ({listed(folders)})")
    return f"left out: {', '.join(parts)}"


def _unreadable(source: ImageFiles, paths: Sequence[Path]) -> UserError:
    if len(paths) == 1:
        return source.unreadable[paths[0]]
    names = listed([printable(path.name) for path in source.unreadable])
    return UserError(
        "--input",
        expected="images",
        found=f"{len(source.unreadable)} of {len(paths)} files unreadable ({names})",
        remedy="replace or remove them (all others are finished)",
    )
