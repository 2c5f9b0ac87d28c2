"""What the benchmark of suggested recipes trains."""

import argparse
import json

from benchmarks import suggested_recipes
from lga_jax.recipe import check, differences


def test_both_recipes_train_on_the_same_data_from_the_same_weights(tmp_path):
    folder = tmp_path / "cards" / "annotations"
    folder.mkdir(parents=True)
    (tmp_path / "cards" / "images").mkdir()
    (tmp_path / "cards" / "images" / "a.png").write_bytes(b"")
    image = {"id": 1, "file_name": "a.png", "height": 200, "width": 300}
    box = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 20]}
    content = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "ace"}]}
    for split in ("train", "test"):
        (folder / f"{split}.json").write_text(json.dumps(content))
    args = argparse.Namespace(data=str(tmp_path), quick=False)
    small, suggested = (check(suggested_recipes.recipe(args, "cards", kind)) for kind in suggested_recipes.KINDS)
    changed = set(differences(small, suggested))
    assert {"data.buckets", "data.short_edges"} <= changed
    assert not any(key.startswith(("data.train", "data.eval.", "model.backbone", "model.init_from")) for key in changed)
