"""The sections of the analysis: what they say, and which classes they choose."""

import numpy as np
import pytest

from lga_jax.report import analysis_sections
from lga_jax.report.analysis_sections import number
from tests.report.analysed import NAMES, evaluated
from tests.report.test_page import text_of

RESULT = evaluated()


def many_classes(count):
    """The analysis with copies of its classes; the first class gets no object."""
    analysis = RESULT.analysis
    times = np.arange(count) % 2
    confusion = np.zeros((count + 1, count + 1), int)
    confusion[1:count, 1:count] = 1
    return analysis._replace(
        class_names=tuple(f"class {i}" for i in range(count)),
        num_objects=(0, *[2] * (count - 1)),
        best_of_class=tuple(analysis.best_of_class[i] for i in times),
        ap50=(float("nan"), *np.linspace(0.9, 0.1, count - 1).tolist()),
        precision=np.concatenate([np.full((10, 101, 1), np.nan), analysis.precision[..., times[1:]]], axis=2),
        sweep=analysis.sweep._replace(f1=analysis.sweep.f1[times]),
        confusion=confusion,
    )


def test_the_headline_has_ap_threshold_and_the_most_costly_kind():
    text = text_of(analysis_sections.headline(RESULT.summary, RESULT.analysis))
    kind = max(RESULT.analysis.error_kinds.items(), key=lambda entry: entry[1].ap50)[0]
    for words in (f"AP{RESULT.summary['AP']:.3f}", "best score threshold0.20", kind.replace("_", " ")):
        assert words in text


def test_without_a_correct_detection_there_is_neither_threshold_nor_f1():
    nothing = RESULT.analysis._replace(best=RESULT.analysis.best._replace(threshold=float("nan")))
    text = text_of(analysis_sections.headline(RESULT.summary, nothing))
    assert "threshold" not in text and "nan" not in text
    assert analysis_sections.threshold_of(nothing) == 0.5


def test_errors_have_a_bar_for_each_kind():
    html = analysis_sections.error_section(RESULT.analysis)
    assert html.count('class="bar"') == 6 and "(1)" in html
    assert html.index("width:100.0%") < html.index("width:", html.index("width:100.0%") + 5)


def test_confusions_name_object_and_detection():
    text = text_of(analysis_sections.confusion_section(RESULT.analysis))
    assert f"{NAMES[0]} detected as {NAMES[1]}1 of 2" in text and "left out" not in text


def test_of_many_classes_those_with_the_lowest_scores_are_drawn():
    analysis = many_classes(30)
    text = text_of(analysis_sections.curve_section(analysis))
    assert "class 29: 0.100" in text and "class 0:" not in text and "class 5: " not in text
    assert "The 10 of 29 classes with the lowest AP50." in text
    with_objects = analysis._replace(num_objects=(0,) * 20 + analysis.num_objects[20:])
    assert "lowest AP50" not in text_of(analysis_sections.curve_section(with_objects))  # all ten are drawn
    assert "The 6 classes with the fewest errors are left out." in text_of(
        analysis_sections.confusion_section(analysis)
    )


def test_the_table_has_a_row_for_each_class():
    text = text_of(analysis_sections.class_table(RESULT.per_class, RESULT.analysis))
    assert all(name in text for name in NAMES)
    nothing = dict.fromkeys(many_classes(3).class_names, float("nan"))
    assert "nan" not in text_of(analysis_sections.class_table(nothing, many_classes(3)))


@pytest.mark.parametrize(("value", "text"), [(0.12345, "0.123"), (float("nan"), "–"), (None, "")])
def test_numbers(value, text):
    assert number(value) == text
