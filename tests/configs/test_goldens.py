"""Every recipe, resolved to one line a value, so that a change of coco.py shows in all recipes that start from it.

After an intended change:  python -m tests.configs.test_goldens
"""

import importlib
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from lga_jax.data.augment.view import evaluation_hw, training_hw
from lga_jax.data.batches.plan import choose_bucket
from lga_jax.models.build import build_detector
from lga_jax.train.optimizer import make_optimizer

REGENERATE = "python -m tests.configs.test_goldens"
ROOT = Path(__file__).parents[2]
RECIPES = sorted(path.stem for path in (ROOT / "configs").glob("[!_]*.py"))


def load(recipe: str) -> ConfigDict:
    return importlib.import_module(f"configs.{recipe}").get_config()


def flatten(config: ConfigDict, prefix: str = "") -> list[str]:
    lines = []
    for key in sorted(config):
        value = config[key]
        if isinstance(value, ConfigDict):
            lines += flatten(value, f"{prefix}{key}.")
        else:
            lines.append(f"{prefix}{key}: {value!r}")
    return lines


def golden(recipe: str) -> Path:
    return ROOT / "tests" / "golden" / f"{recipe}.txt"


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_is_as_reviewed(recipe):
    assert golden(recipe).exists(), f"no golden of {recipe}; write it with: {REGENERATE}"
    assert flatten(load(recipe)) == golden(recipe).read_text().splitlines(), (
        f"configs/{recipe}.py resolves to other values than tests/golden/{recipe}.txt; if intended: {REGENERATE}"
    )


def test_no_golden_outlives_its_recipe():
    assert sorted(path.stem for path in golden("any").parent.glob("*.txt")) == RECIPES


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_has_the_keys_of_the_reference(recipe):
    """All but the arguments of data sources and backbones, which are each one's own."""

    def keys(config: ConfigDict) -> list[str]:
        names = (line.split(":")[0] for line in flatten(config))
        return [name for name in names if not name.startswith(("data.train.", "data.eval.", "model.backbone."))]

    assert keys(load(recipe)) == keys(load("coco"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_can_be_built(recipe):
    config = load(recipe)
    build_detector(config.model, num_classes=3)
    make_optimizer(config.optim, config.batch_size, config.num_steps, labels={})
    assert config.num_steps > config.optim.warmup_steps
    assert all(milestone < config.num_steps for milestone in config.optim.milestones) or config.optim.schedule != "step"


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_buckets_hold_landscape_portrait_and_square_images_without_shrinking(recipe):
    data = load(recipe).data
    sizes = [(data.eval_buckets or data.buckets, evaluation_hw)]
    if not data.scale_jitter:  # which crops
        sizes.append((data.buckets, training_hw))
    for buckets, resized_hw in sizes:
        for hw in ((480, 640), (640, 480), (500, 500)) if len(buckets) > 1 else ((500, 500),):
            resized = resized_hw(hw, data)
            bucket = buckets[choose_bucket(resized, buckets)]
            assert resized[0] <= bucket[0]
            assert resized[1] <= bucket[1]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_docstring_has_the_command(recipe):
    module = importlib.import_module(f"configs.{recipe}")
    assert f"python train.py --config configs/{recipe}.py --workdir runs/" in module.__doc__


def main() -> None:
    for recipe in RECIPES:
        golden(recipe).write_text("\n".join(flatten(load(recipe))) + "\n")
        print(f"wrote {golden(recipe)}")


if __name__ == "__main__":
    main()
