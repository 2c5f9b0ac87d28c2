"""Layout of checkpoints of this project."""

from collections.abc import Collection

from lga_jax.weights.layouts.layout import ALL_PARTS, NOTHING, Layout, Slot


def own_layout(names: Collection[str]) -> Layout:
    """The keys of the variables. A trained norm of the checkpoint may be frozen in the model."""

    def own_names(slot: Slot) -> list[str]:
        path = slot.key.split("/", 1)[1]
        return [f"{collection}/{path}" for collection in ("params", "batch_stats")]

    held = {name.split("/")[1] for name in names if name.count("/") > 1}
    later_stages = sorted(part for part in held if part.startswith("stages_"))
    parts = (*(part for part in ALL_PARTS if part in held), *later_stages)
    return Layout(
        "a checkpoint of lga_jax", parts, own_names, NOTHING, NOTHING, NOTHING, family=_family(names), ours=True
    )


def _family(names: Collection[str]) -> str:
    signs = {
        "params/backbone/stem_position": "vit",
        "params/backbone/layer1_0/conv1/": "resnet",
        "params/backbone/layer1_0/layer_scale": "convnext",
        "params/backbone/layer1_0/depthwise/": "efficientnet_lite",
        "params/backbone/layer1_0/attention/": "swin",
    }
    return next((family for sign, family in signs.items() if any(name.startswith(sign) for name in names)), "")
