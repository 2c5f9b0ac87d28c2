from lga_jax.weights.coco_classes import COCO_CLASSES


def test_eighty_classes_with_ids_up_to_ninety_and_the_ten_gaps_of_the_data_set():
    assert len(COCO_CLASSES) == len(set(COCO_CLASSES.values())) == 80
    assert set(range(1, 91)) - set(COCO_CLASSES) == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert list(COCO_CLASSES) == sorted(COCO_CLASSES)


def test_names_at_both_ends_and_behind_gaps():
    places = {1: "person", 11: "fire hydrant", 13: "stop sign", 27: "backpack", 72: "tv", 90: "toothbrush"}
    assert {category: COCO_CLASSES[category] for category in places} == places
