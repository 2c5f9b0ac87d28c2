import math

import numpy as np
import pytest

from lga_jax.recipe.rule import choice, flag, number, path, several, text, unset_or, whole

WRONG = object()


def accepted(rule, value):
    try:
        return rule.accept(value)
    except (ValueError, TypeError):
        return WRONG


@pytest.mark.parametrize(
    ("rule", "value", "result"),
    [
        (whole(), 3, 3),
        (whole(), 1e3, 1000),
        (whole(), np.int64(3), 3),
        (whole(), 0, WRONG),
        (whole(), 1.5, WRONG),
        (whole(), True, WRONG),
        (whole(), "3", WRONG),
        (whole(), math.inf, WRONG),
        (whole(), math.nan, WRONG),
        (whole(0, 5), 5, 5),
        (whole(0, 5), 6, WRONG),
        (number(above=0), 2, 2.0),
        (number(above=0), 0, WRONG),
        (number(0, below=1), 0, 0.0),
        (number(0, below=1), 1, WRONG),
        (number(0, 1), 1, 1.0),
        (number(0, 1), 1.01, WRONG),
        (number(), math.nan, WRONG),
        (number(), -math.inf, WRONG),
        (number(), False, WRONG),
        (number(), 10**400, WRONG),
        (flag(), True, True),
        (flag(), 1, WRONG),
        (choice("a", "b"), "b", "b"),
        (choice("a", "b"), "c", WRONG),
        (choice("a", "b"), ["a"], WRONG),
        (choice(18, 50), 50.0, 50),
        (choice(1, 2), True, WRONG),
        (text(), "x", "x"),
        (text(), "", WRONG),
        (text(), "a\nb", WRONG),
        (text(may_be_empty=True), "", ""),
        (several(whole(), ""), [1, 2.0], (1, 2)),
        (several(whole(), ""), 1, WRONG),
        (several(whole(), ""), "12", WRONG),
        (several(whole(), "", least=1), (), WRONG),
        (several(whole(), "", most=1), (1, 2), WRONG),
        (unset_or(whole()), None, None),
        (unset_or(whole()), 0, WRONG),
    ],
)
def test_what_rules_accept(rule, value, result):
    try:
        found = accepted(rule, value)
    except OverflowError:  # which `check` takes for a wrong value as well
        found = WRONG
    assert found == result
    assert type(found) is type(result)


def test_home_is_expanded_in_paths(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert path().accept("~/data") == "/home/me/data"
    assert path().accept("hf://timm/resnet50/model.safetensors") == "hf://timm/resnet50/model.safetensors"


@pytest.mark.parametrize(
    ("rule", "given", "value"),
    [
        (whole(), "1e3", 1000.0),
        (number(), "-1", -1),
        (flag(), "true", True),
        (flag(), "False", False),
        (unset_or(whole()), "none", None),
        (several(whole(), ""), "(1, 2)", (1, 2)),
        (several(whole(), ""), "1,2", (1, 2)),
        (several(whole(), ""), "((1,2", "((1,2"),
        (choice("none", "bn"), "none", "none"),
        (text(), "2017", "2017"),
    ],
)
def test_values_of_a_command_line(rule, given, value):
    found = rule.read(given)
    assert found == value
    assert type(found) is type(value)


def test_rules_say_what_they_accept():
    assert whole().expected == "a whole number of at least 1"
    assert whole(0, 5).expected == "a whole number from 0 to 5"
    assert number(0, below=1).expected == "a number of at least 0 and below 1"
    assert choice("a", "b", "c").expected == "'a', 'b' or 'c'"
