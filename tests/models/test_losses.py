import jax.numpy as jnp
import pytest

from configs.coco import get_config
from lga_jax.models.losses import detection_losses
from lga_jax.models.rpn import rpn_losses
from lga_jax.structs import Outputs, RPNOutputs, Samples, Targets
from tests.models.roi import test_stage

RULE = get_config().losses.to_dict() | dict(guide_rois="all")
TARGETS = Targets(jnp.array([[[0.0, 0, 20, 40]]]), jnp.array([[1]]), jnp.array([[True]]))
GUIDED = jnp.zeros((1, 2, 4, 3))
RPN_OUTPUTS = RPNOutputs(
    anchors=jnp.array([[0.0, 0, 20, 20]]),
    objectness=jnp.zeros((1, 1)),
    deltas=jnp.zeros((1, 1, 4)),
    samples=Samples(jnp.array([[0]]), jnp.array([[True]]), jnp.array([[True]]), jnp.array([[0]])),
)


def terms_of(*stages, **changes):
    modules = [test_stage.stage()] * len(stages)
    terms = detection_losses(modules, Outputs(RPN_OUTPUTS, stages), TARGETS, RULE | changes)
    return {name: float(value) for name, value in terms.items()}


def test_the_total_is_the_sum_of_the_rpns_and_the_stages_terms():
    terms = terms_of(test_stage.outputs())
    assert list(terms) == ["rpn_objectness", "rpn_box", "roi_class", "roi_box", "total"]
    assert terms["total"] == pytest.approx(sum(value for name, value in terms.items() if name != "total"))
    assert {name: terms[name] for name in ("rpn_objectness", "rpn_box")} == rpn_losses(RPN_OUTPUTS, TARGETS, "l1", 0.0)


def test_the_box_losses_count_with_their_weights():
    terms, weighted = (
        terms_of(test_stage.outputs(), **weights) for weights in ({}, dict(rpn_box_weight=10.0, roi_box_weight=3.0))
    )
    assert weighted["total"] == pytest.approx(terms["total"] + 9 * terms["rpn_box"] + 2 * terms["roi_box"])
    assert terms_of(test_stage.outputs(), rpn_box="giou")["rpn_box"] == pytest.approx(0.5)  # half of the object


def test_the_guide_counts_with_its_weight():
    without, terms = terms_of(test_stage.outputs()), terms_of(test_stage.outputs(guide_logits=GUIDED))
    assert terms["total"] == pytest.approx(without["total"] + 0.5 * terms["guide"])


def test_later_stages_have_their_number_in_the_name_and_count_alike():
    guided = test_stage.outputs(guide_logits=GUIDED)
    one, two = terms_of(guided), terms_of(guided, guided._replace(class_logits=guided.class_logits.at[..., 2].set(3.0)))
    assert set(two) - set(one) == {"roi_class_2", "roi_box_2", "guide_2"}
    assert two["roi_class_2"] != two["roi_class"] == one["roi_class"]
    added = two["roi_class_2"] + two["roi_box_2"] + 0.5 * two["guide_2"]
    assert two["total"] == pytest.approx(one["total"] + added)


def test_the_losses_of_a_stage_count_with_its_weight():
    guided = test_stage.outputs(guide_logits=GUIDED)
    stages = [test_stage.stage(), test_stage.stage(loss_weight=0.25)]
    terms = detection_losses(stages, Outputs(RPN_OUTPUTS, (guided, guided)), TARGETS, RULE)
    one = terms_of(guided)
    added = 0.25 * (terms["roi_class_2"] + terms["roi_box_2"] + 0.5 * terms["guide_2"])
    assert float(terms["total"]) == pytest.approx(one["total"] + float(added))


def test_stages_without_answers_are_refused():
    with pytest.raises(ValueError, match="zip"):
        detection_losses([test_stage.stage()] * 2, Outputs(RPN_OUTPUTS, (test_stage.outputs(),)), TARGETS, RULE)
