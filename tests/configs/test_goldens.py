"""Every recipe, resolved: coco.py to one line a key, the others to the keys that differ from coco.py.

After an intended change:  python -m tests.configs.test_goldens
"""

from pathlib import Path

import pytest

from lga_jax.data.augment.view import evaluation_hw, training_hw
from lga_jax.data.batches.plan import choose_bucket
from lga_jax.models.build import build_detector
from lga_jax.recipe import check, differences, flatten, load, names
from lga_jax.training.optimizer import make_optimizer

REGENERATE = "python -m tests.configs.test_goldens"
GOLDEN = Path(__file__).parents[1] / "golden"
RECIPES = sorted(names())


def resolved(recipe: str) -> list[str]:
    """Lines 'key: value' of coco; of another recipe 'key: value of coco -> value', None where one lacks the key."""
    if recipe == "coco":
        return [f"{key}: {value!r}" for key, value in sorted(flatten(load(recipe)).items())]
    changed = differences(load("coco"), load(recipe))
    return [f"{key}: {theirs!r} -> {ours!r}" for key, (theirs, ours) in changed.items()]


def golden(recipe: str) -> Path:
    return GOLDEN / f"{recipe}.txt"


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_is_as_reviewed(recipe):
    assert golden(recipe).exists(), f"no golden of {recipe}; write it with: {REGENERATE}"
    assert resolved(recipe) == golden(recipe).read_text().splitlines(), (
        f"configs/{recipe}.py resolves to other values than tests/golden/{recipe}.txt; if intended: {REGENERATE}"
    )


def test_no_golden_outlives_its_recipe():
    assert sorted(path.stem for path in GOLDEN.glob("*.txt")) == sorted([*RECIPES, "messages"])


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_can_be_built(recipe):
    config = check(load(recipe))
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
    text = (Path(__file__).parents[2] / "configs" / f"{recipe}.py").read_text()
    assert f"python train.py --config configs/{recipe}.py --workdir runs/" in text


def main() -> None:
    for recipe in RECIPES:
        golden(recipe).write_text("\n".join(resolved(recipe)) + "\n")
        print(f"wrote {golden(recipe)}")


if __name__ == "__main__":
    main()
