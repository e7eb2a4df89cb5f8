import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.command_line.curves import Scale, make_scale
from torchbase.command_line.terminal_curves import draw


def lines_of(curves, width=60):
    return draw(curves, make_scale(curves.values(), is_logarithmic=False), width).plain.split("\n")


def test_a_decreasing_line_is_drawn_from_the_top_left_to_the_bottom_right():
    lines = lines_of({"training": [(epoch, 5.0 - epoch) for epoch in range(1, 6)]})
    drawn = [line.partition("┤")[2] or line.partition("│")[2] for line in lines[:12]]
    begins = [len(line) - len(line.lstrip()) for line in drawn]
    assert begins == sorted(begins)
    assert begins[0] == 0
    assert drawn[-1].endswith("training")
    assert lines[0].strip().startswith("4.000 ┤")
    assert lines[11].strip().startswith("0.000 ┤")
    assert lines[-1].split() == ["1", "epoch", "5"]


@settings(max_examples=40)
@given(
    curves=st.dictionaries(
        st.sampled_from(["training", "a", "b" * 40, "漢字"]),
        st.lists(st.floats(), min_size=1, max_size=300),
        min_size=1,
    ),
    width=st.integers(40, 120),
    is_logarithmic=st.booleans(),
)
def test_a_drawing_fits_its_width(curves, width, is_logarithmic):
    numbered = {name: list(enumerate(values, start=1)) for name, values in curves.items()}
    scale = make_scale(numbered.values(), is_logarithmic)
    if scale is None:
        return
    drawing = draw(numbered, scale, width)
    assert max(line.cell_len for line in drawing.split("\n")) <= width
    assert not any(line.endswith(" ") for line in drawing.plain.split("\n"))


def test_each_curve_has_its_name_at_its_end():
    curves = {name: [(1, float(height)), (2, float(height))] for height, name in enumerate("abcdefghijklmno")}
    drawing = draw(curves, Scale(0.0, 14.0), 60)
    names = [line[-1] for line in drawing.plain.split("\n")[:-2] if line[-1].isalpha()]
    assert sorted(names) == sorted(curves)
    assert names == sorted(names, reverse=True)  # the highest comes first


def test_names_of_curves_with_the_same_end_come_one_below_the_other():
    curves = {name: [(1, 1.0), (2, 0.0)] for name in "abc"}
    lines = lines_of(curves)
    assert [line[-1] for line in lines[9:12]] == ["a", "b", "c"]


@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0], [math.nan, 2.0]])
def test_a_single_value_is_drawn(values):
    lines = lines_of({"training": list(enumerate(values, start=1))})
    assert any(0x2800 < ord(character) <= 0x28FF for line in lines for character in line)
