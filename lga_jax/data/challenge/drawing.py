"""Draws the scenes of the challenge set with integers only, so that every machine draws the same bytes.

OpenCV fills convex polygons and circles and enlarges noise, in fixed point, equal in versions 4.10 and 5.0 (fillPoly
changed between them). All blending is integer numpy.
"""

import cv2
import numpy as np
from jaxtyping import Int, UInt8, UInt16

from lga_jax.data.challenge.random_ints import RandomInts
from lga_jax.data.challenge.scene import Scene, Vehicle

_GROUNDS = ((112, 128, 78), (168, 150, 112), (138, 118, 92), (122, 122, 120), (146, 152, 128), (96, 110, 96))
_FLAMES = ((255, 120, 20), (255, 190, 40), (240, 70, 20), (255, 225, 120))

Image = UInt8[np.ndarray, "h w 3"]


def draw_scene(scene: Scene, rng: RandomInts, image_hw: tuple[int, int]) -> Image:
    """The image of a scene; `rng` draws all details that are not in the annotations."""
    ground = _ground(rng, image_hw)
    image = ground.copy()
    _clutter(rng, image)
    for vehicle in scene.vehicles:
        _vehicle(rng, image, ground, vehicle, scene)
    if scene.effects.smoke:
        for vehicle in scene.vehicles:
            _smoke(rng, image, vehicle, scene.effects.smoke)
        for vehicle in scene.vehicles:
            _flames(rng, image, vehicle, scene.effects.flames)
    return _sensor_noise(rng, image)


def _noise(rng: RandomInts, hw: tuple[int, int], cells: int) -> Int[np.ndarray, "h w"]:
    """Smooth noise, -128..127, with about `cells` bumps along the longer side."""
    cell = -(-max(hw) // cells)
    rows, columns = hw[0] // cell + 2, hw[1] // cell + 2
    coarse = rng.octets(rows * columns).reshape(rows, columns)
    fine = cv2.resize(coarse, (hw[1], hw[0]), interpolation=cv2.INTER_LINEAR_EXACT)  # the fixed-point interpolation
    return fine.astype(np.int16) - 128


def _ground(rng: RandomInts, hw: tuple[int, int]) -> Image:
    lightness = rng.between(-16, 16)
    red, green, blue = (c + lightness + rng.between(-6, 6) for c in rng.choice(_GROUNDS))
    light = _noise(rng, hw, 4) * rng.between(16, 34) + _noise(rng, hw, 20) * rng.between(14, 34)
    light += (rng.octets(hw[0] * hw[1]).reshape(hw).astype(np.int16) - 128) * rng.between(8, 20)
    tint = _noise(rng, hw, 7) * rng.between(4, 10)
    planes = [red + (light + tint >> 7), green + (light >> 7), blue + (light - tint >> 7)]
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def _clutter(rng: RandomInts, image: Image) -> None:
    unit = min(image.shape[:2])
    if rng.chance(40):
        _road(rng, image, unit)
    for _ in range(rng.between(3, 8)):
        x, y = rng.between(0, image.shape[1] - 1), rng.between(0, image.shape[0] - 1)
        rng.choice((_rock, _rock, _tree, _tree, _shed))(rng, image, x, y, unit)


def _road(rng: RandomInts, image: Image, unit: int) -> None:
    height, width = image.shape[:2]
    left, right, half = rng.between(0, height), rng.between(0, height), unit * rng.between(6, 12) // 100
    grey = rng.between(85, 120)
    _fill(image, [(0, left - half), (width, right - half), (width, right + half), (0, left + half)], (grey,) * 3)
    dashes, thick = 8, max(1, unit // 90)
    for i in range(dashes):
        x0, x1 = width * i // dashes, width * (2 * i + 1) // (2 * dashes)
        y0, y1 = left + (right - left) * x0 // width, left + (right - left) * x1 // width
        _fill(image, [(x0, y0), (x1, y1), (x1, y1 + thick), (x0, y0 + thick)], (205, 203, 190))


def _rock(rng: RandomInts, image: Image, x: int, y: int, unit: int) -> None:
    size, grey = max(2, unit * rng.between(2, 6) // 100), rng.between(80, 165)
    around = ((-10, 0), (-7, -6), (0, -9), (7, -5), (10, 1), (5, 5), (-6, 5))
    outline = [
        (x + (dx + rng.between(-2, 2)) * size // 10, y + (dy + rng.between(-2, 2)) * size // 10) for dx, dy in around
    ]
    _fill(image, outline, (grey, grey - 4, grey - 10))
    _fill(image, outline[:4], (grey + 25, grey + 22, grey + 14))


def _tree(rng: RandomInts, image: Image, x: int, y: int, unit: int) -> None:
    radius, green = max(2, unit * rng.between(3, 8) // 100), rng.between(75, 125)
    _fill(
        image,
        [(x - 1, y), (x + radius // 4, y), (x + radius // 4, y + 2 * radius), (x - 1, y + 2 * radius)],
        (92, 70, 48),
    )
    for shade in (0, 12, 26):
        centre = (x + rng.between(-radius, radius) // 2, y + rng.between(-radius, radius) // 2)
        leaves = (green // 2 + shade, green + shade, green // 3 + shade)
        cv2.circle(image, centre, radius * (40 - shade) // 40, leaves, -1)


def _shed(rng: RandomInts, image: Image, x: int, y: int, unit: int) -> None:
    wide, high, tone = unit * rng.between(7, 14) // 100, unit * rng.between(5, 10) // 100, rng.between(110, 175)
    _fill(image, [(x, y), (x + wide, y), (x + wide, y + high), (x, y + high)], (tone, tone - 12, tone - 30))
    _fill(
        image,
        [(x - 2, y), (x + wide + 2, y), (x + wide - wide // 4, y - high // 2), (x + wide // 4, y - high // 2)],
        (tone - 40, tone - 70, tone - 75),
    )
    _fill(
        image,
        [
            (x + wide // 3, y + high // 3),
            (x + wide // 2, y + high // 3),
            (x + wide // 2, y + high),
            (x + wide // 3, y + high),
        ],
        (70, 62, 55),
    )


def _fill(image: Image, points: list[tuple[int, int]], colour: tuple[int, int, int]) -> None:
    cv2.fillConvexPoly(image, np.array(points, np.int32), colour)


def _vehicle(rng: RandomInts, image: Image, ground: Image, vehicle: Vehicle, scene: Scene) -> None:
    """Draws one vehicle over `image`: polygons at half-pixels, then paint, blur and blending."""
    left, top, right, bottom = vehicle.box
    reach = scene.effects.blur * max(right - left, bottom - top) // 400 + 1 if scene.effects.blur else 0  # pixels
    x0, y0 = left // 2 - reach, top // 2 - reach
    width, height = -(-right // 2) + reach - x0, -(-bottom // 2) + reach - y0
    paint, cover = _rasterise(vehicle, x0, y0, width, height)
    if scene.effects.camouflage:
        paint = _camouflage(rng, paint, cover, ground, (x0, y0), scene.effects.camouflage)
    if reach:
        angle_x, angle_y = rng.choice(((4, 0), (4, 1), (4, -1), (3, 3), (3, -3), (4, 2), (4, -2)))
        paint, cover = (_smear(plane, reach * angle_x // 4, reach * angle_y // 4) for plane in (paint, cover))
    _lay_over(image, paint, cover, x0, y0)


def _rasterise(
    vehicle: Vehicle, x0: int, y0: int, width: int, height: int
) -> tuple[UInt8[np.ndarray, "y x 3"], UInt8[np.ndarray, "y x 1"]]:
    """Colours times cover, and cover (0..255), of the pixels from (x0, y0), as means of four half-pixels."""
    fine = np.zeros((2 * height, 2 * width, 4), np.uint8)
    points = (vehicle.shape.points + (vehicle.x - 2 * x0, vehicle.y - 2 * y0)).astype(np.int32)
    start = 0
    for end, colour in zip(vehicle.shape.ends, vehicle.shape.colours, strict=True):
        cv2.fillConvexPoly(fine, points[start:end], (*colour, 255))
        start = end
    rows = fine[0::2].astype(np.uint16) + fine[1::2]
    pixels = (rows[:, 0::2] + rows[:, 1::2] + 2 >> 2).astype(np.uint8)
    return pixels[..., :3], pixels[..., 3:]


def _camouflage(
    rng: RandomInts,
    paint: UInt8[np.ndarray, "y x 3"],
    cover: UInt8[np.ndarray, "y x 1"],
    ground: Image,
    origin: tuple[int, int],
    weight: int,
) -> UInt8[np.ndarray, "y x 3"]:
    """Blends the background from half a vehicle's length beside it into the paint, by `weight` of 256."""
    height, width = paint.shape[:2]
    dx, dy = rng.choice((-1, 1)) * width // 2, rng.between(-height // 3, height // 3)
    rows = _mirrored(np.arange(height) + origin[1] + dy, ground.shape[0])
    columns = _mirrored(np.arange(width) + origin[0] + dx, ground.shape[1])
    texture = _divide_by_255(ground[rows[:, None], columns].astype(np.uint16) * cover)
    return (paint.astype(np.uint16) * (256 - weight) + texture * np.uint16(weight) >> 8).astype(np.uint8)


def _mirrored(index: Int[np.ndarray, "n"], count: int) -> Int[np.ndarray, "n"]:
    """Mirrors positions outside 0..count-1 back inside, for at most `count` outside."""
    index = np.abs(index)
    return np.minimum(index, np.maximum(2 * count - 2 - index, 0))


def _smear(plane: UInt8[np.ndarray, "y x c"], reach_x: int, reach_y: int) -> UInt8[np.ndarray, "y x c"]:
    """The mean of 32 copies shifted evenly from (-reach_x, -reach_y) to (reach_x, reach_y)."""
    pad_x, pad_y = abs(reach_x), abs(reach_y)
    height, width = plane.shape[:2]
    wide = np.pad(plane, ((pad_y, pad_y), (pad_x, pad_x), (0, 0)))
    total = np.full(plane.shape, 16, np.uint16)
    for i in range(-31, 32, 2):
        x, y = pad_x + (2 * reach_x * i + 31) // 62, pad_y + (2 * reach_y * i + 31) // 62
        total += wide[y : y + height, x : x + width]
    return (total >> 5).astype(np.uint8)


def _lay_over(
    image: Image, paint: UInt8[np.ndarray, "y x 3"], cover: UInt8[np.ndarray, "y x 1"], x0: int, y0: int
) -> None:
    """image = image * (1 - cover) + paint, for the part of the patch inside the image."""
    left, top = max(0, -x0), max(0, -y0)
    right, bottom = min(paint.shape[1], image.shape[1] - x0), min(paint.shape[0], image.shape[0] - y0)
    window = image[y0 + top : y0 + bottom, x0 + left : x0 + right]
    behind = _divide_by_255(window.astype(np.uint16) * (255 - cover[top:bottom, left:right]))
    window[...] = np.minimum(behind + paint[top:bottom, left:right], 255)


def _divide_by_255(product: UInt16[np.ndarray, "..."]) -> UInt16[np.ndarray, "..."]:
    """Rounded quotient of products of two bytes."""
    product = product + np.uint16(128)
    return product + (product >> 8) >> 8


def _smoke(rng: RandomInts, image: Image, vehicle: Vehicle, percent: int) -> None:
    left, top, right, bottom = (edge // 2 for edge in vehicle.box)
    margin = max(right - left, bottom - top) // 4
    x0, y0 = max(0, left - margin), max(0, top - margin)
    window = image[y0 : bottom + margin, x0 : right + margin]
    hw = window.shape[:2]
    cover = _smoke_cover(rng, hw, percent)
    grey = np.clip(rng.between(70, 200) + (_noise(rng, hw, 6) >> 2), 0, 255).astype(np.uint16)[..., None]
    window[...] = _divide_by_255(window * (255 - cover) + grey * cover)


def _smoke_cover(rng: RandomInts, hw: tuple[int, int], percent: int) -> UInt16[np.ndarray, "h w 1"]:
    """Opacity, 0..255, of a cloud over about `percent` of a window, thinner towards the window's corners."""
    rough = 2 * _noise(rng, hw, 3) + _noise(rng, hw, 8)
    level = int(np.sort(rough, None)[rough.size * (100 - percent) // 100])
    y, x = (((2 * np.arange(n) + 1 - n) * 128 // n) ** 2 for n in hw)  # 0 in the middle, 128 ** 2 at the edge
    thinner = np.maximum(y[:, None] + x - 9000, 0) >> 4
    return np.clip((rough - level) * 2 + 110 - thinner, 0, 242).astype(np.uint16)[..., None]


def _flames(rng: RandomInts, image: Image, vehicle: Vehicle, count: int) -> None:
    left, top, right, bottom = (edge // 2 for edge in vehicle.box)
    for _ in range(count):
        x, y = rng.between(left, right), rng.between((top + bottom) // 2, bottom)
        _flame(rng, image, x, y, max(right - left, bottom - top))


def _flame(rng: RandomInts, image: Image, x: int, y: int, size: int) -> None:
    high, wide = size * rng.between(18, 42) // 100, size * rng.between(5, 10) // 100
    bend = rng.between(-wide, wide)
    for percent, colour in ((100, rng.choice(_FLAMES[:3])), (55, _FLAMES[3])):
        tall, half = high * percent // 100, max(1, wide * percent // 100)
        shoulder = y - tall // 3
        _fill(image, [(x - half, y), (x - half, shoulder), (x + half, shoulder), (x + half, y)], colour)
        _fill(image, [(x - half, shoulder), (x + bend, y - tall), (x + half, shoulder)], colour)


def _sensor_noise(rng: RandomInts, image: Image) -> Image:
    grain = (rng.octets(image.size).reshape(image.shape) >> 5).astype(np.int16) - 4
    return np.clip(image + grain, 0, 255).astype(np.uint8)
