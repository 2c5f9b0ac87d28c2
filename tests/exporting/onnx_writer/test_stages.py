"""A cascade with attentions of its own in every stage."""

import jax
import jax.numpy as jnp
import numpy as np

from lga_jax.exporting.onnx_writer.roi_features import Levels
from lga_jax.exporting.onnx_writer.selection import Regions
from lga_jax.exporting.onnx_writer.stages import run_stages
from lga_jax.models.build import build_detector
from lga_jax.models.postprocess import mean_scores
from lga_jax.models.roi import crops
from lga_jax.structs import Outputs, RoIs
from tests.exporting.onnx_writer.running import channels_first, close, random_like, run, weights_of
from tests.models import tiny

RNG = np.random.default_rng(0)
MAPS = [RNG.normal(size=(1, 400 // stride, 300 // stride, 16)).astype(np.float32) for stride in (4, 8, 16, 32)]
# Weak: noise turns the rounding of places into differences of features, and close-ups of the second stage read it.
C2 = RNG.normal(0, 0.1, (1, 128, 96, 8)).astype(np.float32)
HW = np.float32([400, 300])


def test_a_cascade_gives_mean_scores_and_the_masks_of_the_last_stage_with_masks():
    config = tiny.model_config()
    config.box_head.update(num_convs=1, norm="gn", num_fcs=1)
    config.cascade.update(
        attentions=("lga", "none"), positive_ious=(0.6, 0.7), coder_scales=(2.0, 3.0), loss_weights=(0.5, 0.25)
    )
    detector = build_detector(config, 3)
    corner = RNG.uniform(0, 150, (8, 2))
    boxes = np.concatenate([corner, corner + RNG.uniform(20, 200, (8, 2))], axis=1).astype(np.float32)
    rois = RoIs(*map(jnp.asarray, (boxes[None], np.zeros((1, 8), np.float32), np.ones((1, 8), bool))))
    levels = crops.Levels([jnp.asarray(x) for x in MAPS], jnp.asarray(C2))

    def stages(variables):
        outputs, regions = [], rois
        for number, stage in enumerate(detector.stages):
            own = variables if number == 0 else {"params": variables["params"][f"stages_{number}"]}
            outputs.append(stage.apply(own, levels, regions, None, None))
            regions = stage.refined(outputs[-1], jnp.asarray(HW[None]))
        return outputs, mean_scores(Outputs(None, tuple(outputs)))

    variables = _variables(detector)
    outputs, scores = jax.jit(stages)(variables)

    def predicted(boxes, valid, limit, c2, *maps):
        return run_stages(Levels(maps, c2), Regions(boxes, valid), detector.stages, weights_of(variables), limit)

    limit = np.float32([300, 400, 300, 400])
    found = run(predicted, boxes, rois.valid[0], limit, *map(channels_first, [C2, *MAPS]))
    # The order of the RoIs is that of their levels in the last stage.
    order = [int(np.abs(one - outputs[-1].rois.boxes[0]).sum(-1).argmin()) for one in found.regions.boxes]
    assert sorted(order) == list(range(8)) != order
    order = np.array(order)
    close(found.regions.boxes, outputs[-1].rois.boxes[0][order], 1e-3)
    close(found.scores, scores[0][order], 1e-4)
    close(found.deltas, outputs[-1].box_deltas[0][order].reshape(8, -1), 1e-3)
    close(found.masked.boxes, outputs[1].rois.boxes[0][order], 1e-3)
    close(found.masked.centres, outputs[1].gaussians.centres[0][order], 1e-3)
    close(found.masked.sigmas, outputs[1].gaussians.sigmas[0][order], 1e-3)


def _variables(detector):
    shapes = jax.eval_shape(
        lambda: detector.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3), jnp.uint8), jnp.asarray([[64.0, 64.0]]))
    )
    return random_like(shapes)
