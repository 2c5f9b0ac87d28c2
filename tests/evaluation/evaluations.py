"""Folders such as eval.py writes, of detections that are objects of a small generated set."""

import json

from lga_jax.data.source import fingerprint_of, open_source, truth_of
from lga_jax.evaluation.segm import with_masks
from tests.tiny_run import recipe


def write_evaluation(workdir, keep=1.0, step=7, masks=False, **changes):
    """Detects the first `keep` of all objects with falling scores; `changes` are keys of the recipe.

    masks: with the true masks.
    """
    config = recipe()
    config.update_from_flattened_dict(changes)
    source = open_source(**config.data.eval)
    truth = truth_of(source)
    annotations = (with_masks(source, truth) if masks else truth)["annotations"]
    detections = [
        {
            **{key: box[key] for key in ("image_id", "category_id", "bbox")},
            "score": 0.9 - 0.5 * place / len(annotations),
            **({"segmentation": _as_text(box["segmentation"])} if masks else {}),
        }
        for place, box in enumerate(annotations)
        if place < keep * len(annotations)
    ]
    folder = workdir / f"eval_{step}"
    folder.mkdir(parents=True)
    metrics = {"step": step, "data": fingerprint_of(source), "recipe": json.loads(config.to_json())}
    metrics |= {"segm_per_class": {}} if masks else {}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "detections.json").write_text(json.dumps(detections))
    return folder


def _as_text(rle):
    return {"size": rle["size"], "counts": rle["counts"].decode()}
