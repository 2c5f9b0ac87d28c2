"""Mutated files of users: annotations, images, weights, recipes and manifests."""

import json
import shutil
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from lga_jax.checkpoints.read import restore_params
from lga_jax.data.coco.source import CocoJson
from lga_jax.data.decode import MAX_PIXELS, decode_image
from lga_jax.data.doctor.examine import examine
from lga_jax.errors import UserError
from lga_jax.inference.predictor import Predictor
from lga_jax.recipe import check, load
from lga_jax.recipe.load import override
from lga_jax.weights.files import read_weights
from lga_jax.weights.load import load_pretrained
from tests.data.conftest import truth
from tests.torture import recipe, samples
from tests.torture.journal import Result
from tests.torture.lives import Fault
from tests.torture.mutate import any_value, mutate_bytes, mutate_json

_KINDS = (
    *("annotations",) * 5,
    *("images",) * 5,
    *("weights",) * 5,
    *("recipes",) * 3,
    *("manifests",) * 2,
)


class Inputs:
    """Of twenty trials, 5 are annotations, 5 images, 5 weights, 3 recipes and 2 manifests."""

    def __init__(self, scratch: Path, seed: int) -> None:
        self._folder, self._seed = scratch / "inputs", seed
        shutil.rmtree(self._folder, ignore_errors=True)
        (self._folder / "weights").mkdir(parents=True)
        self._recipe = load(recipe.write_recipe(self._folder))
        self._samples = samples.images()
        self._variables, self._model = samples.detector()
        self._weight_files = samples.weights(self._folder / "weights", self._variables)
        self._manifest = samples.write_run(self._folder / "run")

    def trial(self, number: int) -> Result:
        """One mutated file: read, or refused in one line."""
        rng = np.random.default_rng([self._seed, number])
        kind = _KINDS[number % len(_KINDS)]
        try:
            found = getattr(self, f"_{kind}")(rng)
        except UserError as error:
            faults = getattr(error, "faults", (error,))
            lines = max(len(str(fault).splitlines()) for fault in faults)
            return Result(number, kind, f"{lines} lines: {error}"[:300] if lines != 1 else "", "refused")
        except Exception as error:
            return Result(number, kind, f"{type(error).__name__}: {error}"[:300])
        return Result(number, kind, "", found)

    def _annotations(self, rng: np.random.Generator) -> str:
        if rng.integers(2):
            data = json.dumps(mutate_json(truth(), rng)).encode()
        else:
            data = mutate_bytes(json.dumps(truth()).encode(), rng)
        place = samples.annotated(self._folder / "coco", data)
        if rng.integers(2):
            examined = dict(source="coco_json", skip_empty=False, **place)
            examine(ConfigDict({**self._recipe.data.to_dict(), "train": examined, "eval": examined}), quick=True)
            return "examined"
        for record in CocoJson(**place, skip_empty=False).records:
            x1, y1, x2, y2 = record.boxes_original.T
            if not ((x1 >= 0) & (x1 < x2) & (x2 <= record.width) & (y1 >= 0) & (y1 < y2)).all():
                raise Fault("boxes outside the image")
        return "read"

    def _images(self, rng: np.random.Generator) -> str:
        name, data, pixels = self._samples[rng.integers(len(self._samples))]
        mutated = mutate_bytes(data, rng)
        image = decode_image(mutated, name).image
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image[..., 0].size > MAX_PIXELS:
            raise Fault(f"an array {image.dtype}{image.shape}")
        if name.startswith("PNG") and not np.array_equal(image, pixels) and not samples.sound_png(mutated):
            raise Fault("other pixels, though a checksum of the PNG does not fit")
        return "read"

    def _weights(self, rng: np.random.Generator) -> str:
        path, arrays = self._weight_files[rng.integers(len(self._weight_files))]
        data = path.read_bytes()
        mutated = self._folder / path.name
        mutated.write_bytes(mutate_bytes(data, rng))
        same = mutated.read_bytes() == data
        weights = read_weights(str(mutated))
        if not same and samples.has_checksums(path):
            if samples.names_digest(path):
                raise Fault("the digest in the name does not fit the file")
            for name, array in weights.arrays.items():
                if name in arrays and not np.array_equal(array, arrays[name]):
                    raise Fault(f"another value of {name}, though the file has checksums")
        load_pretrained(weights, self._variables, samples.CLASSES, self._model)
        return "read"

    def _recipes(self, rng: np.random.Generator) -> str:
        return (self._recipe_values, self._recipe_flags, self._recipe_file)[rng.integers(3)](rng)

    def _recipe_values(self, rng: np.random.Generator) -> str:
        try:
            config = ConfigDict(mutate_json(self._recipe.to_dict(), rng), type_safe=False)
        except (ValueError, RecursionError):  # a key with a dot, or very deep lists: no recipe can have them
            return "impossible recipe"
        check(config, device_count=1)
        return "accepted"

    def _recipe_flags(self, rng: np.random.Generator) -> str:
        keys = list(flatten_dict(self._recipe.to_dict(), sep="."))
        config = ConfigDict(self._recipe.to_dict(), type_safe=False)
        override(config, {keys[rng.integers(len(keys))]: _text(rng) for _ in range(int(rng.integers(1, 4)))})
        check(config, device_count=1)
        return "accepted"

    def _recipe_file(self, rng: np.random.Generator) -> str:
        path = self._folder / "mutated.py"
        path.write_bytes(mutate_bytes(recipe.SMALL.encode(), rng))
        check(load(path), device_count=1)
        return "accepted"

    def _manifests(self, rng: np.random.Generator) -> str:
        workdir = self._folder / "run"
        sealed = bool(rng.integers(2))
        mutated = mutate_json(self._manifest, rng) if sealed else mutate_bytes(json.dumps(self._manifest).encode(), rng)
        samples.write_manifest(workdir, mutated, sealed)
        saved = restore_params(str(workdir))
        if not sealed and saved.manifest != self._manifest:
            raise Fault("another manifest than the saved one, with the saved digest")
        Predictor(saved, str(workdir))
        return "read"


def _text(rng: np.random.Generator) -> str:
    """A value of the command line."""
    value = any_value(rng)
    text = value if isinstance(value, str) else repr(value)
    return mutate_bytes(text.encode(errors="replace"), rng).decode(errors="replace") if rng.integers(2) else text
