"""Answers to flags that do not exist, without a process: the processes are in test_parsing.py."""

import pytest
from absl import flags

from lga_jax.command_line.hints import bare_argument, help_text, unknown_flag


@pytest.fixture
def known():
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "Folder of the run.", flag_values=values)
    flags.DEFINE_integer("step", 3, "Step to take.", flag_values=values)
    return values


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("workdr", "--workdir"),
        ("lr", "--config.optim.lr=VALUE"),
        ("learning_rat", "--help"),
        ("resume", "same --workdir"),
        ("num_gpus", "JAX_PLATFORMS"),
        ("epochs", "--config.num_steps=N"),
        ("augmentation", "--config.data.augment="),
    ],
)
def test_a_flag_that_does_not_exist_is_answered_with_the_right_form(known, name, remedy):
    error = unknown_flag(name, known, has_config=True)
    assert error.subject == f"--{name}" and remedy in error.remedy


def test_keys_of_a_recipe_are_proposed_only_to_commands_that_take_one(known):
    assert "--config." not in unknown_flag("lr", known, has_config=False).remedy
    assert "--config" not in bare_argument("optim.lr=1", has_config=False).remedy


@pytest.mark.parametrize(
    ("argument", "remedy"),
    [
        ("optim.lr=0.1", "--config.optim.lr=VALUE"),
        ("coco", "--config coco"),
        ("config.batch_size=2", "batch_size=VALUE"),
    ],
)
def test_a_bare_argument_is_answered_with_the_flag_that_it_means(argument, remedy):
    error = bare_argument(argument, has_config=True)
    assert error.subject == argument and remedy in error.remedy


def test_help_lists_flags_with_defaults_and_how_to_change_a_recipe(known):
    text = help_text(known, "Does something.", has_config=True)
    assert text.startswith("Does something.")
    assert "--workdir  Folder of the run." in text and "Step to take. (default" in text and "--config.optim.lr=" in text
    assert "--config." not in help_text(known, "Does something.", has_config=False)
