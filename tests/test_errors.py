"""What users are told: the parts of an error, and names in a line."""

import pytest

from lga_jax.errors import UserError, counted, listed, name_differences, printable, shown


def test_an_error_is_one_line_of_the_parts_that_it_has():
    parts = dict(expected="a number", found="'x'", remedy="correct it")
    error = UserError("--step", **parts)
    assert str(error) == "--step: expected a number, found 'x'; correct it"
    assert (error.subject, error.expected, error.found, error.remedy) == ("--step", *parts.values())
    assert str(UserError("--step", found="'x'")) == "--step: found 'x'"
    assert str(UserError("--step", remedy="correct it")) == "--step; correct it"
    assert isinstance(error, ValueError)


def test_within_puts_a_place_before_the_subject_and_keeps_the_kind():
    class SpecialError(UserError):
        pass

    error = SpecialError("root", expected="a folder", remedy="correct it").within("data.train")
    assert type(error) is SpecialError and error.subject == "data.train: root"
    assert str(error) == "data.train: root: expected a folder; correct it"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "none"), (1, "0"), (3, "0, 1, 2"), (4, "0, 1, 2 and 1 more"), (2000, "0, 1, 2 and 1,997 more")],
)
def test_the_first_names_and_the_number_of_the_others(count, text):
    assert listed(range(count), 3) == text


def test_names_may_be_separated_otherwise():
    assert listed(["a b", "c"], 5, "; ") == "a b; c"


def test_numbers_have_the_plural_of_their_noun():
    assert [counted(n, noun) for n, noun in ((1, "box"), (0, "box"), (3941, "class"), (2, "image"))] == [
        "1 box",
        "0 boxes",
        "3,941 classes",
        "2 images",
    ]


def test_what_a_file_holds_is_one_short_line():
    assert shown("5") == "'5'" and shown(5) == "5" and shown([1, "a"]) == "[1, 'a']"
    assert shown("a\n\x1b") == r"'a\n\x1b'"
    assert shown("x" * 200) == f"'{'x' * 76}..." and len(shown("x" * 200)) == 80


def test_names_have_no_quotes_and_no_control_characters():
    assert printable("a b") == "a b" and printable("a\x1b[31m\ud800") == r"a\x1b[31m\ud800"
    assert len(printable("x" * 500)) == 160 and printable("x" * 160) == "x" * 160


def test_the_text_of_an_error_has_no_control_characters_and_its_parts_are_unchanged():
    error = UserError("a\n\x1b[2J.png", found="\u202eb")
    assert str(error) == r"a\n\x1b[2J.png: found \u202eb" and error.subject == "a\n\x1b[2J.png"


@pytest.mark.parametrize(
    ("ours", "theirs", "text"),
    [
        (["car ", "bus"], ["car", "bus"], "only in A: 'car '; only in B: 'car'"),
        (["car", "bus"], ["car"], "only in A: 'bus'"),
        (["e\u0301"], ["\xe9"], r"only in A: 'e\u0301'; only in B: '\xe9'"),
        (["a", "b"], ["b", "a"], "another order: class 1 is 'a' in A and 'b' in B"),
        (["a", "b"], ["a", "b", "a"], "another order: class 3 is none in A and 'a' in B"),
    ],
)
def test_only_the_names_that_differ_are_listed_and_spaces_are_visible(ours, theirs, text):
    assert name_differences(ours, theirs, "A", "B") == text
