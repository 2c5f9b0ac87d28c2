"""The training loss: the terms of the RPN and of every RoI stage.

Every term is a sum over samples divided by the fixed number of sample slots, not by the number of valid samples. The
loss of a batch is therefore the mean over its images and does not depend on the number of devices.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Array, Float

from lga_jax.models.roi.mask_head import mask_loss
from lga_jax.models.roi.stage import RoIStage
from lga_jax.models.rpn import rpn_losses
from lga_jax.structs import Outputs, Targets


def detection_losses(
    stages: Sequence[RoIStage], outputs: Outputs, targets: Targets, rule: Mapping[str, Any]
) -> dict[str, Float[Array, ""]]:
    """All loss terms by name, and their weighted sum 'total'.

    Args:
        stages: the stages of the detector. The terms of the second stage are named roi_class_2 and so on.
        outputs: the outputs of the detector with targets.
        targets: the same targets.
        rule: the recipe's `losses`, with `class_weights` for all classes or (). rpn_box_weight, mask_weight,
            roi_box_weight and guide_weight are the weights of 'rpn_box', of 'mask', and of every 'roi_box' and 'guide'
            in the sum.
    """
    terms = rpn_losses(outputs.rpn, targets, rule["rpn_box"], rule["rpn_box_beta"])
    weights = {"rpn_box": rule["rpn_box_weight"]}
    for number, (stage, answers) in enumerate(zip(stages, outputs.stages, strict=True), start=1):
        ending = f"_{number}" if number > 1 else ""
        own = {f"{name}{ending}": value for name, value in stage.losses(answers, rule).items()}
        terms |= own
        weights |= dict.fromkeys(own, stage.loss_weight)
        weights[f"roi_box{ending}"] = stage.loss_weight * rule["roi_box_weight"]
        weights[f"guide{ending}"] = stage.loss_weight * rule["guide_weight"]
    if outputs.masks is not None:
        terms["mask"] = mask_loss(outputs.masks)
        weights["mask"] = rule["mask_weight"]
    total = sum(weights.get(name, 1.0) * value for name, value in terms.items())
    return terms | {"total": total}
