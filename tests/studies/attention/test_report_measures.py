"""The tables of measures.jsonl, with numbers small enough to read."""

from studies.attention.comparison import latest
from studies.attention.report_measures import KINDS, measure_tables, plot_errors, power_table


def line(row, seed, shift, masks=None):
    ap = {"objects": 4, "AP": 0.5 + shift}
    found = {
        "data": "cards",
        "row": row,
        "seed": seed,
        "AP50": 0.6 + shift,
        "errors": {kind: {"ap50": 0.05, "count": 3} for kind in KINDS},
        "confusion_share": 0.8,
        "confused": {"ace/king": 0.1, "ace/ten": 0.3},
        "slices": {
            "occlusion": {"none": ap, "from 0.3": {"objects": 0, "AP": None}},
            "size": {"small": ap},
            "pair": {"ace/king": ap, "ace/ten": ap | {"AP": 0.9}},
        },
    }
    return found | ({"masks": masks} if masks else {})


MASKS = [
    {"worth": [0.03, 0.0], "worth_of_all": 0.04, "decides": [0.5, 0.25]},
    {"worth": [0.01, 0.001], "worth_of_all": 0.06, "decides": [0.3, 0.25]},
]
LINES = [line("none", 0, 0.0), line("none", 1, 0.1), line("lga", 0, 0.02, MASKS[0]), line("lga", 1, 0.14, MASKS[1])]


def test_the_tables_have_the_numbers():
    errors, slices, pairs, masks = (text for _, text in measure_tables(latest(LINES, "cards")))
    assert "| `none` | 2 | 0.650 (0.071) | 0.050 |" in errors and "| 0.80 (0.00) |" in errors
    assert "| row | occlusion none (4) | size small (4) |" in slices and "from 0.3" not in slices
    assert "| `none` | 0.550 | 0.550 |" in slices
    # Differences .02 and .04: mean .03, half width t(1) = 12.706 times .01.
    assert "| `lga` | +0.030 ± 0.127 |" in slices
    assert "| row | ace/ten (4) | ace/king (4) |" in pairs  # the most confused first
    assert "| `lga` | +0.020, +0.001 | 0.050 (0.014) | 1.0 | 0.40, 0.25 |" in masks and "`none`" not in masks


def test_without_measures_there_are_no_tables():
    assert measure_tables({}) == []
    assert [title.split(":")[0] for title, _ in measure_tables(latest(LINES[:1], "cards"))][:1] == ["Kinds of errors"]


def test_power_needs_three_seeds():
    runs = [{"data": "cards", "row": row, "seed": seed, "AP": ap} for row, seed, ap in APS]
    assert "| `lga` | 3 | 0.010 | 10 | 5 | 4 |" in power_table(latest(runs, "cards"))
    assert power_table(latest(runs[:4], "cards")) == ""


APS = [("none", 0, 0.5), ("lga", 0, 0.51), ("none", 1, 0.5), ("lga", 1, 0.52), ("none", 2, 0.5), ("lga", 2, 0.53)]


def test_the_plot_is_written(tmp_path):
    plot_errors(latest(LINES, "cards"), "cards", tmp_path / "errors.png")
    assert (tmp_path / "errors.png").read_bytes().startswith(b"\x89PNG")
