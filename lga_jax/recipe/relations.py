"""Conditions between several values of a recipe.

Each function gets the checked values by key, {'optim.lr': 0.02, ...}, and yields errors. If a key is missing, because
its value is wrong or replaced by an object of the caller, the function raises KeyError and is skipped.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lga_jax.errors import UserError
from lga_jax.recipe.keys import NUM_LEVELS, SOURCES_WITH_MASKS

Values = Mapping[str, Any]
_FIX = "correct the recipe"


def batch_and_devices(values: Values, device_count: int) -> Iterator[UserError]:
    """All devices process the same number of images per step."""
    batch_size = values["batch_size"]
    if batch_size % device_count:
        below = batch_size // device_count * device_count
        sizes = f"{below} or {below + device_count}" if below else str(device_count)
        yield UserError(
            "batch_size",
            expected=f"a multiple of the number of devices ({device_count})",
            found=str(batch_size),
            remedy=f"nearest valid sizes: {sizes}",
        )


def images_at_once(values: Values, device_count: int) -> Iterator[UserError]:
    """It must divide the images of a device in a step, and "bn" needs all of them together."""
    at_once, share = values["images_at_once"], values["batch_size"] // device_count
    if at_once and share and share % at_once:
        devices = f"each of {device_count} devices" if device_count > 1 else "a device"
        yield UserError(
            "images_at_once",
            expected=f"0 or a divisor of the {share} images on {devices} with batch_size {values['batch_size']}",
            found=str(at_once),
            remedy=_FIX,
        )
    if at_once not in (0, share) and _has_batch_norm(values):
        yield UserError(
            "images_at_once",
            expected="0 with the norm 'bn', because its statistics cover all images of a step",
            found=str(at_once),
            remedy="use 0, or the norm 'frozen_bn' or 'gn'",
        )


def evaluation_losses(values: Values) -> Iterator[UserError]:
    """Losses are computed image by image, and early stopping needs several evaluations of its metric."""
    if values["eval_losses"] and _has_batch_norm(values):
        yield UserError(
            "eval_losses",
            expected="False with the norm 'bn', because losses need the statistics of many images",
            found="True",
            remedy="use the norm 'frozen_bn' or 'gn'",
        )
    if not values["early_stopping.patience"]:
        return
    if values["early_stopping.metric"] == "loss" and not values["eval_losses"]:
        yield UserError(
            "early_stopping.metric", expected="'AP' without eval_losses", found="'loss'", remedy="set eval_losses=True"
        )
    if not values["eval_every"]:
        yield UserError(
            "early_stopping.patience",
            expected="0 with one evaluation at the end",
            found=str(values["early_stopping.patience"]),
            remedy="set eval_every",
        )


def raw_weights(values: Values) -> Iterator[UserError]:
    """Without a moving average the raw parameters are those that are evaluated anyway."""
    if values["eval_raw"] and not values["optim.ema_decay"]:
        yield UserError(
            "eval_raw", expected="False without a moving average", found="True", remedy="set optim.ema_decay, as 0.999"
        )


def class_weights(values: Values) -> Iterator[UserError]:
    """Weights are given, or computed."""
    if values["losses.class_weights"] and values["losses.balance_classes"]:
        yield UserError(
            "losses.class_weights",
            expected="() with losses.balance_classes",
            found=str(values["losses.class_weights"]),
            remedy="set only one of them",
        )


def _has_batch_norm(values: Values) -> bool:
    # Some backbones have no choice of norms.
    parts = ("backbone", "fpn", "box_head", *(["mask_head"] if values["model.mask_head.enabled"] else []))
    return any(values.get(f"model.{part}.norm") == "bn" for part in parts)


def object_masks(values: Values) -> Iterator[UserError]:
    """A mask head is trained on masks of objects. Files of annotations are examined when they are opened."""
    if not values["model.mask_head.enabled"]:
        return
    for key, kind in values.items():
        if key.startswith("data.train.") and key.endswith(".source") and kind not in SOURCES_WITH_MASKS:
            yield UserError(
                "model.mask_head.enabled",
                expected=f"False with {key} {kind!r}, which has boxes only",
                found="True",
                remedy=f"train without a mask head, or on {' or '.join(SOURCES_WITH_MASKS)}",
            )


def milestones(values: Values) -> Iterator[UserError]:
    """Milestones are in ascending order. They may exceed num_steps, because a run can be extended later."""
    steps = list(values["optim.milestones"])
    if steps != sorted(set(steps)):
        yield UserError("optim.milestones", expected="steps in ascending order", found=str(tuple(steps)), remedy=_FIX)


def short_edges(values: Values) -> Iterator[UserError]:
    """No short edge may exceed the limit of the long edge."""
    keys = ["data.eval_short_edge"] if values["data.scale_jitter"] else ["data.eval_short_edge", "data.short_edges"]
    for key in keys:
        edge, long_edge = _longest(values[key]), values["data.long_edge"]
        if edge > long_edge:
            yield UserError(
                "data.long_edge",
                expected=f"at least the {edge} pixels of {key}",
                found=str(long_edge),
                remedy="raise it, or lower the short edge",
            )


def buckets(values: Values) -> Iterator[UserError]:
    """One bucket must fit the longest short edge; otherwise all images with this edge are reduced."""
    if not values["data.scale_jitter"]:  # scale jitter crops the image to its bucket
        yield from _too_small(values, "data.buckets", "data.short_edges")
    yield from _too_small(values, "data.eval_buckets" if values["data.eval_buckets"] else "data.buckets", _EVAL_EDGE)


_EVAL_EDGE = "data.eval_short_edge"


def _too_small(values: Values, buckets_key: str, edge_key: str) -> Iterator[UserError]:
    edge = min(_longest(values[edge_key]), values["data.long_edge"])
    largest = max(min(hw) for hw in values[buckets_key])
    if edge > largest:
        yield UserError(
            buckets_key,
            expected=f"a bucket with both sides at least the {edge} pixels of {edge_key}",
            found=f"at most {largest}",
            remedy="enlarge a bucket, or lower the short edge",
        )


def anchor_overlaps(values: Values) -> Iterator[UserError]:
    """An anchor cannot be positive and negative."""
    positive, negative = (values[f"model.anchor_sampling.{kind}_iou"] for kind in ("positive", "negative"))
    if negative > positive:
        yield UserError(
            "model.anchor_sampling.negative_iou",
            expected=f"at most positive_iou, {positive:g}",
            found=f"{negative:g}",
            remedy=_FIX,
        )


def later_stages(values: Values) -> Iterator[UserError]:
    """All keys of the cascade have one value per later stage."""
    expected = len(values["model.cascade.positive_ious"])
    for name in ("attentions", "coder_scales", "loss_weights"):
        if (found := len(values[f"model.cascade.{name}"])) != expected:
            yield UserError(
                f"model.cascade.{name}",
                expected=f"{expected} values, one per value of model.cascade.positive_ious",
                found=str(found),
                remedy=_FIX,
            )


def dynamic_values(values: Values) -> Iterator[UserError]:
    """Dynamic R-CNN changes the positive IoU of the only RoI stage and the transition of its smooth-L1 loss."""
    if not values["dynamic.window"]:
        return
    needed = {
        "losses.roi_box": (values["losses.roi_box"] == "l1", "'l1'"),
        "losses.roi_box_beta": (values["losses.roi_box_beta"] > 0, "a number above 0, such as 1.0,"),
        "model.cascade.positive_ious": (not values["model.cascade.positive_ious"], "()"),
    }
    for key, (holds, expected) in needed.items():
        if not holds:
            yield UserError(key, expected=f"{expected} with dynamic.window", found=repr(values[key]), remedy=_FIX)


def anchor_sizes(values: Values) -> Iterator[UserError]:
    """One size per pyramid level. For a backbone of the caller, `build_detector` compares with its levels."""
    values["model.backbone.name"]
    sizes = values["model.anchors.sizes"]
    if len(sizes) != NUM_LEVELS:
        yield UserError(
            "model.anchors.sizes",
            expected=f"{NUM_LEVELS} sizes, one for each pyramid level, as (32, 64, 128, 256, 512)",
            found=str(sizes),
            remedy=_FIX,
        )


def num_proposals(values: Values) -> Iterator[UserError]:
    """NMS cannot return more boxes than it gets."""
    num_levels = NUM_LEVELS if "model.backbone.name" in values else len(values["model.anchors.sizes"])
    for phase in ("train", "test"):
        before, after = (values[f"model.proposals.{when}_nms_{phase}"] for when in ("pre", "post"))
        if after > num_levels * before:
            yield UserError(
                f"model.proposals.post_nms_{phase}",
                expected=f"at most {num_levels} levels x pre_nms_{phase}, {num_levels * before}",
                found=str(after),
                remedy=_FIX,
            )


def num_detections(values: Values) -> Iterator[UserError]:
    """There cannot be more detections than candidates."""
    candidates, detections = values["inference.max_candidates"], values["inference.max_detections"]
    if detections > candidates:
        yield UserError(
            "inference.max_candidates",
            expected=f"at least max_detections, {detections}",
            found=str(candidates),
            remedy="raise it, or lower max_detections",
        )


def resnet_width(values: Values) -> Iterator[UserError]:
    """Group norm has 16 channels per group, or one group for fewer channels."""
    width = values["model.backbone.width"]
    if any(width * 2**stage % min(width * 2**stage, 16) for stage in range(4)):
        yield UserError(
            "model.backbone.width", expected="1, 2, 4, 8 or a multiple of 16", found=str(width), remedy=_FIX
        )


def group_norms(values: Values) -> Iterator[UserError]:
    """The rule of `resnet_width` for the channels of the pyramid and the box head."""
    channels = values["model.fpn.channels"]
    grouped = [f"model.{part}.norm" for part in ("fpn", "box_head") if values[f"model.{part}.norm"] == "gn"]
    if grouped and channels > 16 and channels % 16:
        yield UserError(
            "model.fpn.channels",
            expected=f"at most 16 or a multiple of 16 with {grouped[0]} 'gn'",
            found=str(channels),
            remedy=_FIX,
        )


def reductions(values: Values) -> Iterator[UserError]:
    """At least one channel must remain."""
    channels = values["model.fpn.channels"]
    used = {values["model.attention"], *values["model.cascade.attentions"]}
    for attention in sorted(used & {"cbam", "non_local", "squeeze_excitation"}):
        if values[f"model.{attention}.reduction"] <= channels:
            continue
        yield UserError(
            f"model.{attention}.reduction",
            expected=f"at most model.fpn.channels, {channels}",
            found=str(values[f"model.{attention}.reduction"]),
            remedy=_FIX,
        )


def generated_images(values: Values) -> Iterator[UserError]:
    """A batch cannot be larger than the generated set, and min_objects cannot exceed max_objects."""
    for part in ("data.train", "data.eval"):
        if values[f"{part}.source"] == "challenge":
            least, most = values.get(f"{part}.min_objects", 1), values.get(f"{part}.max_objects", 4)
            if least > most:
                yield UserError(
                    f"{part}.min_objects", expected=f"at most max_objects, {most}", found=str(least), remedy=_FIX
                )
    if values["data.train.source"] == "challenge" and values["batch_size"] > values["data.train.num_images"]:
        yield UserError(
            "batch_size",
            expected=f"at most the {values['data.train.num_images']} images of data.train",
            found=str(values["batch_size"]),
            remedy="lower it, or raise data.train.num_images",
        )


def mixed_classes(values: Values) -> Iterator[UserError]:
    """`classes` of a mixed source is the name of a part."""
    for key in [key for key in values if key.endswith(".classes")]:
        place = key.removesuffix(".classes")
        parts = [name.removesuffix(".source") for name in values if name.startswith(f"{place}.parts.")]
        names = sorted({name.removeprefix(f"{place}.parts.").split(".")[0] for name in parts})
        if values[key] not in ("", *names):
            yield UserError(key, expected=f"'' or one of {', '.join(names)}", found=repr(values[key]), remedy=_FIX)


def initial_weights(values: Values) -> Iterator[UserError]:
    """A random backbone must be trainable: no frozen stages and no frozen batch norm."""
    norm, frozen = values.get("model.backbone.norm"), values["model.backbone.frozen_stages"]
    if values["model.init_from"]:
        return
    if frozen > 0 or norm == "frozen_bn":
        kind = f"norm {norm!r} and " if norm else ""
        yield UserError(
            "model.init_from",
            expected=f"initial weights for a backbone with {kind}{frozen} frozen stages",
            found="none",
            remedy="use --config.model.init_from=FILE, or train from random weights with "
            f"{'--config.model.backbone.norm=gn ' if norm else ''}--config.model.backbone.frozen_stages=0",
        )
    if values["model.init_strict"]:
        yield UserError(
            "model.init_strict", expected="False without model.init_from", found="True", remedy="set model.init_from"
        )


def _longest(edges: int | tuple[int, ...]) -> int:
    return max(edges) if isinstance(edges, tuple) else edges


RELATIONS: tuple[Callable[[Values], Iterator[UserError]], ...] = (
    evaluation_losses,
    raw_weights,
    class_weights,
    milestones,
    short_edges,
    buckets,
    anchor_overlaps,
    anchor_sizes,
    later_stages,
    dynamic_values,
    num_proposals,
    num_detections,
    resnet_width,
    group_norms,
    reductions,
    generated_images,
    mixed_classes,
    object_masks,
)
