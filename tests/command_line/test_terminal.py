import pytest
from rich.console import Console

from torchbase.command_line.terminal import (
    Trimmed,
    config_value,
    cropped,
    make_table,
    number,
    plain,
    short_names,
    width_of,
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
def test_numbers_have_four_digits(value, text):
    assert number(value) == text


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
def test_values_of_configs_look_as_one_writes_them(value, text):
    assert config_value(value) == text


def test_a_text_is_one_line_that_does_nothing_to_a_terminal():
    assert plain("a\nb\t\x1b[31m\x07 é漢") == "a\\nb\\t\\x1b[31m\\x07 é漢"
    assert plain(3) == "3"


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("漢字漢字", 5, "漢字…"), ("漢字", 4, "漢字")],
)
def test_a_text_is_cropped_to_a_width(text, width, expected):
    assert cropped(text, width) == expected
    assert width_of(expected) <= width


def test_tables_have_no_spaces_at_the_ends_of_their_lines(capsys):
    table = make_table("a", "b", right=["a"])
    table.add_row("1", "long")
    table.add_row("22", "x")
    table.add_row("", "")
    Console(width=40).print(Trimmed(table))
    assert capsys.readouterr().out == " a  b\n 1  long\n22  x\n\n"


def test_phases_have_the_names_of_their_sets_where_that_is_clear():
    assert short_names(["training", "validation-a"]) == {"training": "training", "validation-a": "a"}
    assert short_names(["training", "validation-training"]) == {
        "training": "training",
        "validation-training": "validation-training",
    }
    assert short_names(["validation-a\nb"]) == {"validation-a\nb": "a\\nb"}
