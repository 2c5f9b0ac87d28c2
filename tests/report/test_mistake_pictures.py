"""The sheets of pictures of an evaluation."""

import numpy as np

from lga_jax.data.source import UnreadableImageError
from lga_jax.drawing.close_ups import SIDE
from lga_jax.report.mistake_pictures import choose_images, sheets
from tests.report.analysed import NAMES, Photos, evaluated, evaluated_masks

RESULT = evaluated()


def by_title(result=RESULT, photos=None):
    return {sheet.title: sheet for sheet in sheets(photos or Photos(), result)}


def test_every_kind_of_mistake_has_its_sheet_with_scores_and_costs():
    found = by_title()
    assert list(found)[-3:] == ["Images that cost most", "Annotations to check", "Images of the set"]
    assert set(list(found)[:-3]) == {"Wrong class: 1", "Duplicate: 1", "Poor box: 1", "Background: 1", "Missed: 1"}
    (confusion,) = found["Wrong class: 1"].pictures
    assert f"detected {NAMES[1]} 0.80, object {NAMES[0]}; costs 0." in confusion.caption
    (missed,) = found["Missed: 1"].pictures
    assert f"not detected, object {NAMES[0]}" in missed.caption
    assert confusion.image.shape[0] > 300 and confusion.image.std() > 5  # enlarged, with boxes


def test_a_mistake_shows_what_its_gaussian_masks_look_at():
    masks = {"mask_centres": [[20.0, 20.0], [40.0, 30.0]], "mask_sigmas": [[5.0, 5.0], [5.0, 8.0]]}
    masked = RESULT._replace(detections=[detection | masks for detection in RESULT.detections])
    plain, closer = (by_title(result)["Wrong class: 1"].pictures[0].image for result in (RESULT, masked))
    assert closer.shape[0] > plain.shape[0] + SIDE
    np.testing.assert_array_equal(closer[: len(plain)], plain)
    (missed,) = by_title(masked)["Missed: 1"].pictures  # no detection, so no masks
    np.testing.assert_array_equal(missed.image, by_title()["Missed: 1"].pictures[0].image)


def test_poor_masks_are_drawn():
    result = evaluated_masks()
    sheet = by_title(result)["Poor mask: 1"]
    (cat,) = sheet.pictures  # the other poor mask is in a poor box
    assert f"detected {NAMES[1]} 0.75" in cat.caption
    without = {key: value for key, value in result.detections[0].items() if key != "segmentation"}
    other = result._replace(detections=[without, *result.detections[1:]])
    boxes = by_title(other)["Poor mask: 1"].pictures[0].image
    tinted = (cat.image != boxes).any(2)
    assert tinted.any(0).sum() * 2 < tinted.any(1).sum()  # 14 x 40 pixels of the image


def test_pictures_state_the_threshold_and_count_what_is_below():
    low = RESULT._replace(analysis=RESULT.analysis._replace(best=RESULT.analysis.best._replace(threshold=0.7)))
    sheet = by_title(low)["Images of the set"]
    assert "at least 0.70 are drawn" in sheet.text
    captions = [picture.caption for picture in sheet.pictures]
    assert captions == [
        "four.jpg: 2 objects, 3 detections, 1 below the threshold",
        "1: 2 objects, 0 detections, 3 below the threshold",
    ]


def test_without_analysis_there_are_only_images_of_the_set():
    assert list(by_title(RESULT._replace(analysis=None))) == ["Images of the set"]


def test_an_unreadable_image_is_left_out():
    class Broken(Photos):
        def image(self, index):
            if index == 0:
                raise UnreadableImageError("four.jpg")
            return super().image(index)

    found = by_title(photos=Broken())
    assert len(found["Images of the set"].pictures) == 1
    assert found["Wrong class: 1"].pictures == []


def test_an_image_on_several_sheets_is_read_once():
    seen = []

    class Counted(Photos):
        def image(self, index):
            seen.append(index)
            return super().image(index)

    found = by_title(photos=Counted())
    assert sum(len(sheet.pictures) for sheet in found.values()) > 2 and sorted(seen) == [0, 1]


def test_a_box_at_the_border_of_a_tiny_image_is_drawn():
    class Tiny(Photos):
        def image(self, index):
            return np.zeros((3, 3, 3), np.uint8)

    assert by_title(photos=Tiny())["Images of the set"].pictures


def test_images_are_chosen_from_all_challenges_in_turn():
    images = [{"challenge": "plain", "severity": 0}] * 5 + [{"challenge": "scale", "severity": s} for s in (1, 3, 3)]
    assert choose_images(images, 4) == [0, 5, 6, 1]
    assert sorted(choose_images(images, 20)) == list(range(8))


def test_images_without_challenges_are_spread_evenly():
    assert choose_images([{"id": i} for i in range(11)], 3) == [0, 5, 10]
    assert choose_images([{"id": 0}], 24) == [0]
    assert choose_images([], 24) == []
