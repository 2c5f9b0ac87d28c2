import pytest

from lga_jax.errors import UserError
from lga_jax.recipe import augment, check, load, names, override
from lga_jax.recipe.augmentation import PRESETS, preset


def _changed(changes: dict[str, str]) -> dict:
    config = load("coco")
    override(config, changes)
    return check(config).data.to_dict()


def test_presets_set_the_same_keys_and_those_exist():
    assert len({tuple(sorted(values)) for values in PRESETS.values()}) == 1
    assert set(PRESETS["none"]) < set(load("coco").data)
    assert not any(PRESETS["none"].values())


def test_every_recipe_takes_every_preset():
    for recipe in names():
        for name in PRESETS:
            config = load(recipe)
            augment(config, name)
            found = check(config).data.to_dict()
            assert PRESETS[name].items() <= found.items()


def test_the_reference_recipe_has_the_standard_augmentation():
    assert PRESETS["standard"].items() <= load("coco").data.to_dict().items()


def test_a_preset_changes_no_other_key():
    before, after = load("coco_json"), load("coco_json")
    augment(after, "strong")
    same = set(before.data) - set(PRESETS["strong"])
    assert {key: before.data[key] for key in same} == {key: after.data[key] for key in same}


def test_on_the_command_line_single_values_win_in_any_order():
    for order in (("augment", "flip_probability"), ("flip_probability", "augment")):
        texts = {"augment": "strong", "flip_probability": "0.25"}
        data = _changed({f"data.{key}": texts[key] for key in order})
        assert data["flip_probability"] == 0.25 and data["copy_paste"] == PRESETS["strong"]["copy_paste"]
    assert "augment" not in _changed({"data.augment": "none"})


def test_an_unknown_preset_is_one_fault():
    for call in (lambda: preset("storng"), lambda: _changed({"data.augment": "storng"})):
        with pytest.raises(UserError) as caught:
            call()
        assert caught.value.subject == "data.augment" and "'aerial'" in caught.value.expected
        assert "strong" in caught.value.remedy


def test_a_recipe_with_the_name_of_a_preset_learns_how_to_set_it():
    config = load("coco")
    with config.unlocked():
        config.data.augment = "strong"
    with pytest.raises(UserError) as caught:
        check(config)
    (fault,) = caught.value.faults
    assert fault.subject == "data.augment" and "augment(config, 'strong')" in fault.remedy
