"""Draws detections: boxes, names, scores, the object mask and the Gaussian masks of each object."""

import colorsys
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw
from pycocotools import mask as coco_masks

from lga_jax.drawing.canvas import (
    Canvas,
    Colour,
    draw_box,
    draw_dashed_box,
    draw_dot,
    draw_ellipse,
    make_canvas,
    tint_ellipse,
    tint_pixels,
)
from lga_jax.drawing.labels import Label, draw_labels
from lga_jax.drawing.text import drawable_names

_MASK_COLOURS: tuple[Colour, ...] = (  # distinct for colour-blind people (after Okabe and Ito)
    (255, 200, 10),
    (72, 202, 255),
    (255, 110, 190),
    (60, 230, 130),
    (255, 133, 46),
    (178, 150, 255),
)
_TRUTH_COLOUR: Colour = (255, 255, 255)
STRIP_COLOUR: Colour = (24, 24, 27)  # background of legends and sheets
_TINT = 0.2  # opacity of a Gaussian mask
_OBJECT_TINT = 0.4  # opacity of an object mask


def draw_detections(
    image: UInt8[np.ndarray, "h w 3"],
    detections: Iterable[Mapping],
    names: Mapping[int, str],
    truth: Sequence[Mapping] = (),
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Draws detections on an RGB image. Small images are enlarged first, for readable text and ellipses.

    Box, name, score and object mask have the colour of the class. A Gaussian mask is a dot at its centre and an
    ellipse at one sigma. A strip below the image explains the colours of the Gaussian masks.

    Args:
        detections: COCO results of this image (`lga_jax.inference.coco_results.to_coco`), in pixels of the image.
        names: class names by category id.
        truth: COCO annotations, drawn as dashed white boxes; 'part_bbox' is dotted.
    """
    ordered = sorted(detections, key=lambda detection: detection["score"])  # the best is drawn last, above the others
    colours, drawn = class_colours(names), drawable_names(names)
    canvas = make_canvas(image)
    for annotation in truth:
        draw_dashed_box(canvas, annotation["bbox"], _TRUTH_COLOUR, dash=5)
        if "part_bbox" in annotation:
            draw_dashed_box(canvas, annotation["part_bbox"], _TRUTH_COLOUR, dash=1)
    for detection in ordered:
        if detection.get("segmentation"):
            pixels = coco_masks.decode(detection["segmentation"]).astype(bool)
            tint_pixels(canvas, pixels, colours[detection["category_id"]], _OBJECT_TINT)
    for detection in ordered:
        draw_box(canvas, detection["bbox"], colours[detection["category_id"]])
    for detection in ordered:
        _draw_masks(canvas, detection)
    labelled = draw_labels(
        canvas,
        (
            Label(d["bbox"], f"{drawn[d['category_id']]} {d['score']:.2f}", colours[d["category_id"]])
            for d in reversed(ordered)
        ),
    )
    num_masks = max((len(detection.get("mask_centres", ())) for detection in ordered), default=0)
    return np.concatenate([labelled, *_strip(canvas, num_masks, truth)])


def class_colours(names: Mapping[int, str]) -> dict[int, Colour]:
    """A bright colour for each category id."""
    golden = 0.618033988749895  # hues at steps of the golden ratio stay far apart
    hues = {category: (0.02 + i * golden) % 1.0 for i, category in enumerate(names)}
    return {category: _bright(hue) for category, hue in hues.items()}


def mask_colour(number: int) -> Colour:
    """The colour of a Gaussian mask by its number, equal in all pictures."""
    return _MASK_COLOURS[number % len(_MASK_COLOURS)]


def _bright(hue: float) -> Colour:
    red, green, blue = colorsys.hls_to_rgb(hue, 0.6, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def _draw_masks(canvas: Canvas, detection: Mapping) -> None:
    """Draws all fillings, then all outlines, then all centres, so that no mask hides the centre of another."""
    centres, sigmas = detection.get("mask_centres", ()), detection.get("mask_sigmas", ())
    masks = [(*mask, mask_colour(i)) for i, mask in enumerate(zip(centres, sigmas, strict=True))]
    for centre, sigma, colour in masks:
        tint_ellipse(canvas, centre, sigma, colour, _TINT)
    for centre, sigma, colour in masks:
        draw_ellipse(canvas, centre, sigma, colour)
    for centre, _, colour in masks:
        draw_dot(canvas, centre, colour, room=min(detection["bbox"][2:]))


def _strip(canvas: Canvas, num_masks: int, truth: Sequence[Mapping]) -> list[UInt8[np.ndarray, "h w 3"]]:
    """The legend below the picture; empty without masks and ground truth."""
    entries = [(f"● mask {i + 1}", mask_colour(i)) for i in range(num_masks)]
    if num_masks:
        entries.append(("dot: centre, ellipse: 1 sigma", _TRUTH_COLOUR))
    if truth:
        parts = ", dotted: part" if any("part_bbox" in annotation for annotation in truth) else ""
        entries.append((f"dashed: truth{parts}", _TRUTH_COLOUR))
    if not entries:
        return []
    rows = _wrap(canvas, entries)
    height = round(canvas.font.size * 1.7)
    picture = Image.new("RGB", (canvas.pixels.shape[1], height * len(rows)), STRIP_COLOUR)
    pen = ImageDraw.Draw(picture)
    for number, row in enumerate(rows):
        for x, text, colour in row:
            pen.text((x, height * (number + 0.5)), text, fill=colour, font=canvas.font, anchor="lm")
    return [np.asarray(picture)]


def _wrap(canvas: Canvas, entries: Sequence[tuple[str, Colour]]) -> list[list[tuple[float, str, Colour]]]:
    """Rows of (x, text, colour) that fit into the width of the canvas."""
    rows, x, gap = [[]], canvas.font.size * 0.6, canvas.font.size * 1.1
    for text, colour in entries:
        length = canvas.font.getlength(text)
        if rows[-1] and x + length > canvas.pixels.shape[1]:
            rows.append([])
            x = canvas.font.size * 0.6
        rows[-1].append((x, text, colour))
        x += length + gap
    return rows
