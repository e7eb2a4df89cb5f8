import math
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.command_line.svg_curves import HEIGHT, WIDTH, draw_svg


def drawing_of(curves, is_logarithmic=False):
    positions = {label: position for position, label in enumerate(curves)}
    return ElementTree.fromstring(draw_svg(curves, positions, is_logarithmic, "what it shows"))


def points_of(polyline):
    return [tuple(map(float, point.split(","))) for point in polyline.get("points").split()]


def test_a_curve_is_a_line_with_a_dot_per_epoch_and_its_label_at_its_end():
    drawing = drawing_of({"A": [(1, 4.0), (2, 2.0), (3, 0.0)], "B": [(1, 1.0), (2, 1.0)]})
    assert drawing.get("aria-label") == "what it shows"
    first, second = drawing.findall("polyline")
    (x1, y1), (x2, y2), (x3, y3) = points_of(first)
    assert x2 - x1 == x3 - x2 > 100
    assert y2 - y1 == y3 - y2 > 80
    assert [line.get("class") for line in (first, second)] == ["curve-0", "curve-1"]
    titles = [circle.findtext("title") for circle in drawing.findall("circle")]
    assert titles == [
        "A, epoch 1: 4.000",
        "A, epoch 2: 2.000",
        "A, epoch 3: 0.000",
        "B, epoch 1: 1.000",
        "B, epoch 2: 1.000",
    ]
    labels = {text.text: text for text in drawing.findall("text")}
    assert float(labels["A"].get("x")) > x3
    assert labels["B"].get("class") == "dot-1"
    assert {"1", "2", "3", "epoch", "0", "4"} <= labels.keys()
    assert "logarithmic" not in labels
    assert "logarithmic" in {text.text for text in drawing_of({"A": [(1, 1.0), (2, 9.0)]}, True).findall("text")}


def test_a_ninth_curve_has_dashes():
    drawing = drawing_of({f"{number}": [(1, number), (2, number)] for number in range(17)})
    lines = drawing.findall("polyline")
    assert [lines[number].get("class") for number in (0, 8, 16)] == ["curve-0"] * 3
    assert len({lines[number].get("stroke-dasharray") for number in (0, 8, 16)}) == 3


def test_labels_of_curves_with_the_same_end_do_not_overlap():
    labels = [f"{number}" for number in range(100, 110)]
    drawing = drawing_of({label: [(1, 1.0), (2, 2.0 + number / 1000)] for number, label in enumerate(labels)})
    heights = sorted(float(text.get("y")) for text in drawing.findall("text") if text.text in labels)
    assert len(heights) == 10
    assert min(second - first for first, second in pairwise(heights)) > 12
    assert max(heights) <= HEIGHT


def test_without_finite_values_there_is_a_sentence():
    text = draw_svg({"A": [(1, math.nan)]}, {"A": 0}, False, "a <b>")
    assert text == "<p>a &lt;b&gt;: no finite value</p>"


def test_many_epochs_make_a_small_drawing():
    curve = [(epoch, math.sin(epoch)) for epoch in range(1, 100_001)]
    text = draw_svg({"A": curve}, {"A": 0}, False, "")
    assert len(text) < 30_000
    assert "<circle" not in text


labels = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=3)


@settings(max_examples=40)
@given(
    curves=st.dictionaries(labels, st.lists(st.floats(allow_nan=True), min_size=1, max_size=60), min_size=1),
    is_logarithmic=st.booleans(),
)
def test_all_values_are_drawn_inside(curves, is_logarithmic):
    drawing = drawing_of({label: list(enumerate(values, start=1)) for label, values in curves.items()}, is_logarithmic)
    for polyline in drawing.findall("polyline"):
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points_of(polyline))
