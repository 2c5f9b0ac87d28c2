from lga_jax.recipe import load
from lga_jax.suggest.choose import choose
from lga_jax.suggest.recipe_text import write_text
from lga_jax.suggest.statistics import measure
from tests.suggest.sets import CPU, Set

DATA = dict(source="coco_json", root='C:\\sets "a"', annotations="a.json", images="", skip_empty=False)


def _text(source: Set, data: dict) -> str:
    statistics = measure(source)
    return write_text(choose(statistics, CPU), {"train": data, "eval": data}, statistics, "here/mine.py")


def test_the_file_is_a_recipe_with_every_value_and_its_reason(tmp_path):
    (tmp_path / "mine.py").write_text(_text(Set(), DATA))
    config = load(tmp_path / "mine.py")
    assert config.data.train.to_dict() == config.data.eval.to_dict() == DATA
    lines = (tmp_path / "mine.py").read_text().splitlines()
    for choice in choose(measure(Set()), CPU).choices:
        value = config
        for name in choice.key.split("."):
            value = value[name]
        assert value == choice.value
        (row,) = [number for number, line in enumerate(lines) if line.startswith(f"    config.{choice.key} = ")]
        while lines[row].startswith("    config."):
            row -= 1
        assert lines[row].startswith("    # ")
    assert max(map(len, lines)) <= 120


def test_names_of_classes_cannot_leave_the_text(tmp_path):
    hostile = ('"""\nimport os', "\\N{BULLET}", "a" * 300)
    text = _text(Set(sides=(30, 40, 50), names=hostile), DATA)
    (tmp_path / "mine.py").write_text(text)
    load(tmp_path / "mine.py")
    assert "\nimport os" not in text


def test_a_mixed_set_keeps_its_parts(tmp_path):
    parts = dict(a=DATA | dict(weight=1.0), b=DATA | dict(weight=3.0))
    (tmp_path / "mine.py").write_text(_text(Set(), dict(source="mixed", parts=parts)))
    assert load(tmp_path / "mine.py").data.train.to_dict() == dict(source="mixed", parts=parts)
