import pytest
from rich.console import Console

from torchbase.command_line.terminal import (
    Trimmed,
    crop,
    crop_value,
    format_number,
    format_value,
    make_table,
    pack,
    plain,
    short_names,
    text_width,
)
from torchbase.files.json_values import NOT_GIVEN


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5000"),
        (0.0379318, "0.03793"),
        (144.60873, "144.6"),
        (1234.0, "1234"),
        (123456.0, "1.235e+05"),
        (1.5e-07, "1.500e-07"),
        (0.0, "0.000"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (None, "-"),
    ],
)
def test_numbers_have_four_significant_digits(value, text):
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.003, "0.003"),
        (0.1 + 0.2, "0.3"),
        (1.0, "1.0"),
        (10**12, "1000000000000"),
        (True, "True"),
        (None, "None"),
        ("adam", "adam"),
        ("", "''"),
        ([0.7, "a", None], '[0.7, "a", null]'),
        (["é"], '["é"]'),
        ({}, "{}"),
        (NOT_GIVEN, "-"),
    ],
)
def test_config_values_are_formatted_without_quotes(value, text):
    assert format_value(value) == text


def test_a_text_becomes_one_line_without_control_characters():
    assert plain("a\nb\t\x1b[31m\x07 é漢") == "a\\nb\\t\\x1b[31m\\x07 é漢"
    assert plain(3) == "3"


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("漢字漢字", 5, "漢字…"), ("漢字", 4, "漢字")],
)
def test_a_text_is_cropped_to_a_width(text, width, expected):
    assert crop(text, width) == expected
    assert text_width(expected) <= width


@pytest.mark.parametrize(
    ("value", "width", "expected"),
    [
        (123456789012345678901234567890, 10, "123456789012345678901234567890"),
        (-1.23456e-100, 5, "-1.23456e-100"),
        ([0.25, 0.125, 0.5], 18, "[0.25, 0.125, 0.5]"),
        ([0.25, 0.125, 0.5], 17, "[0.25, 0.125, …"),
        ([0.25, 0.125, 0.5], 14, "[0.25, …"),
        ([0.25, 0.125, 0.5], 3, "[…"),
        ([[1, 2], "a, b"], 12, "[[1, 2], …"),
        ("a long text", 6, "a lon…"),
        (NOT_GIVEN, 1, "-"),
    ],
)
def test_a_value_is_cropped_without_cutting_a_number(value, width, expected):
    assert crop_value(value, width) == expected


def test_items_are_packed_into_lines():
    assert pack(["a 1", "b 2", "c 3"], 9) == "a 1, b 2,\nc 3"
    assert pack(["a 1", "b 2", "c 3"], 10) == "a 1, b 2,\nc 3"
    assert pack(["a 1", "b 2"], 1) == "a 1,\nb 2"
    assert pack([], 10) == ""


def test_lines_of_tables_do_not_end_with_spaces(capsys):
    table = make_table("a", "b", right=["a"])
    table.add_row("1", "long")
    table.add_row("22", "x")
    table.add_row("", "")
    Console(width=40).print(Trimmed(table))
    assert capsys.readouterr().out == " a  b\n 1  long\n22  x\n\n"


def test_phases_have_short_names_unless_they_are_ambiguous():
    assert short_names(["training", "validation-a"]) == {"training": "training", "validation-a": "a"}
    assert short_names(["training", "validation-training"]) == {
        "training": "training",
        "validation-training": "validation-training",
    }
    assert short_names(["validation-a\nb"]) == {"validation-a\nb": "a\\nb"}
