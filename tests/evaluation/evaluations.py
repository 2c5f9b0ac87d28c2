"""Folders such as eval.py writes, of detections that are objects of a small generated set."""

import json

from lga_jax.data.source import fingerprint_of, open_source, truth_of
from tests.tiny_run import recipe


def write_evaluation(workdir, keep=1.0, step=7, **changes):
    """Detects the first `keep` of all objects with falling scores; `changes` are keys of the recipe."""
    config = recipe()
    config.update_from_flattened_dict(changes)
    source = open_source(**config.data.eval)
    annotations = truth_of(source)["annotations"]
    detections = [
        {
            **{key: box[key] for key in ("image_id", "category_id", "bbox")},
            "score": 0.9 - 0.5 * place / len(annotations),
        }
        for place, box in enumerate(annotations)
        if place < keep * len(annotations)
    ]
    folder = workdir / f"eval_{step}"
    folder.mkdir(parents=True)
    metrics = {"step": step, "data": fingerprint_of(source), "recipe": json.loads(config.to_json())}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "detections.json").write_text(json.dumps(detections))
    return folder
