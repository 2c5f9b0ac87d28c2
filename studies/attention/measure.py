"""Measures finished runs of the study: kinds of errors, slices, what every mask is worth, and its heat maps.

    python -m studies.attention.measure --workdir runs/study --data cards_search --data_root data

Predicts the evaluation images again with the parameters of each run, once with all masks, once without each mask and
once without any. A run becomes one line of WORKDIR/measures.jsonl and is not repeated. A removed mask adds neither its
masked crop nor its close-up.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from lga_jax.checkpoints.read import restore_params
from lga_jax.data.batches.loader import EvalLoader
from lga_jax.data.source import Source
from lga_jax.evaluation.analysis import Analysis, analyse
from lga_jax.evaluation.evaluate import EvalResult, score_source
from lga_jax.evaluation.mask_hits import true_positives
from lga_jax.inference.step import make_predict_step
from lga_jax.models.build import init_variables
from lga_jax.models.detector import Detector
from lga_jax.terminal import safe_output
from studies.attention.heat_maps import describe_heat_maps, heat_maps
from studies.attention.rows import ROWS, Row, resolve, set_row
from studies.attention.run import run_folder
from studies.attention.slices import slices
from studies.attention.variants import KEPT, build_row
from studies.attention.workdir import key_of, open_sources, read_measures, read_runs

DECIDES = 0.05  # a mask decides an object if its score is lower by this without the mask
Score = Callable[[Sequence[int]], EvalResult]  # evaluates without these masks


class Opened(NamedTuple):
    """A finished run."""

    row: Row
    config: ConfigDict
    source: Source  # the evaluation images
    detector: Detector
    variables: Mapping[str, Any]


def open_run(run: dict[str, Any], workdir: Path, root: str) -> Opened:
    """Restores the detector of a line of runs.jsonl, and opens its evaluation images."""
    jax.config.update("jax_compilation_cache_dir", str(workdir.absolute() / "compiled"))
    data, row = run["data"], ROWS[run["row"]]
    config = resolve(data, row, root)
    places = {part: config.data[part].get("root") for part in ("train", "eval")}
    config.update(run["config"])  # with the overrides of a trial
    set_row(config, row)  # earlier runs do not name the close-ups in their recipe
    for part in (part for part, place in places.items() if place):
        config.data[part].root = places[part]
    source = open_sources(data, config, workdir / "images")[1]
    detector = build_row(config, row, len(source.class_names))
    variables = restore_params(str(run_folder(workdir, data, run["row"], run["seed"])), "latest").variables
    expected = jax.eval_shape(lambda: init_variables(detector, 0))["params"]
    if jax.tree.structure(expected) != jax.tree.structure(variables["params"]):
        raise SystemExit(f"{run['row']}, seed {run['seed']}: its parameters are not those of this form; use its commit")
    return Opened(row, config, source, detector, variables)


def scorer(opened: Opened) -> Score:
    """The function that scores a run's detector on its evaluation images; one compiled program for all removals."""
    row, config = opened.row, opened.config
    predict_step = make_predict_step(opened.detector, config.inference.to_dict())

    def score(removed: Sequence[int]) -> EvalResult:
        given = opened.variables
        if row.attention == "lga":
            kept = np.ones(row.num_masks, np.float32)
            kept[list(removed)] = 0.0
            given = given | {KEPT[0]: {"attention": {KEPT[1]: kept}}}
        return score_source(
            predict_step,
            given,
            opened.source,
            config.data,
            config.batch_size,
            should_stop=lambda: False,
            progress=sys.stderr.isatty(),
        )

    return score


def measure(run: dict[str, Any], workdir: Path, root: str) -> dict[str, Any]:
    """The line of a run for measures.jsonl."""
    opened = open_run(run, workdir, root)
    row, source, score = opened.row, opened.source, scorer(opened)
    whole, truth = score(()), source.truth()
    found = {name: run[name] for name in ("data", "row", "seed", "digest")}
    found["AP"] = round(whole.summary["AP"], 5)
    found |= describe_errors(analyse(truth, whole.detections))
    found["slices"] = slices(truth, whole.detections)
    if row.attention == "lga":
        found["masks"] = describe_masks(truth, whole, score, row.num_masks)
    if row.attention == "lga" and row.centres == "softmax":
        batches = EvalLoader(
            source, opened.config.data, opened.config.batch_size, jax.local_devices()[:1], with_targets=True
        )
        found["heat_maps"] = describe_heat_maps(*heat_maps(opened.detector, opened.variables, batches))
    return found


def describe_errors(analysis: Analysis) -> dict[str, Any]:
    """Kinds of errors, and confusions of pairs at the best threshold.

    errors: AP50 that the errors of a kind cost, and their number at the best threshold.
    confusion_share: the part of the missing AP50, 1 - AP50, that errors of the class alone cost.
    confused: per pair of classes, the share of their objects that a detection of the other class matches.
    """
    ap50 = float(np.nanmean(analysis.ap50))
    kinds = [mistake.kind for mistake in analysis.mistakes]
    errors = {
        name: {"ap50": round(kind.ap50, 5), "count": kinds.count(name)} for name, kind in analysis.error_kinds.items()
    }
    names, counts = analysis.class_names, analysis.confusion
    confused = {}
    for first in range(len(names)):
        for second in range(first + 1, len(names)):
            objects = analysis.num_objects[first] + analysis.num_objects[second]
            both = counts[first, second] + counts[second, first]
            confused[f"{names[first]}/{names[second]}"] = round(float(both / max(objects, 1)), 4)
    return {
        "AP50": round(ap50, 5),
        "errors": errors,
        "confusion_share": round(errors["wrong_class"]["ap50"] / max(1.0 - ap50, 1e-9), 4),
        "confused": confused,
    }


def describe_masks(truth: dict, whole: EvalResult, score: Score, num_masks: int) -> dict[str, Any]:
    """What each mask is worth.

    worth: AP with all masks minus AP without this one; worth_of_all: without any.
    decides: the share of the true positives that each mask decides, see `deciding`.
    """
    without = [score((mask,)) for mask in range(num_masks)]
    decided = list(deciding(truth, whole, without).values())
    return {
        "worth": [round(whole.summary["AP"] - one.summary["AP"], 5) for one in without],
        "worth_of_all": round(whole.summary["AP"] - score(range(num_masks)).summary["AP"], 5),
        "decides": [round(decided.count(mask) / max(len(decided), 1), 4) for mask in range(num_masks)],
    }


def deciding(truth: dict, whole: EvalResult, without: Sequence[EvalResult]) -> dict[Any, int | None]:
    """The mask that decides each true positive, by the id of its annotation.

    The mask without which the score of the object falls most; None if it never falls by DECIDES. An object that is not
    found without a mask has the score 0.
    """
    scores = [_score_of_object(truth, result) for result in (whole, *without)]
    found = {}
    for annotation, score in scores[0].items():
        falls = [score - other.get(annotation, 0.0) for other in scores[1:]]
        found[annotation] = int(np.argmax(falls)) if max(falls) >= DECIDES else None
    return found


def _score_of_object(truth: dict, result: EvalResult) -> dict[Any, float]:
    pairs = true_positives([box for box in truth["annotations"] if not box.get("iscrowd", 0)], result.detections)
    return {box["id"]: detection["score"] for box, detection in pairs}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path("runs/study"), help="workdir of studies.attention.study")
    parser.add_argument("--data", default="cards_search", help="data set")
    parser.add_argument("--rows", type=lambda text: text.split(","), help="only these rows")
    parser.add_argument("--data_root", default="data", help="folder with bccd/, neu_det/ and cards/")
    given = parser.parse_args(arguments)
    done = {key_of(line) for line in read_measures(given.workdir)}
    rows = set(given.rows or ROWS) & set(ROWS)  # a row that no longer exists cannot be built
    missing = [run for run in read_runs(given.workdir) if key_of(run) not in done]
    for run in tqdm([run for run in missing if run["data"] == given.data and run["row"] in rows], unit="run"):
        line = measure(run, given.workdir, given.data_root)
        with (given.workdir / "measures.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    with safe_output():
        main()
