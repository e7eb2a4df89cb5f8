import math

import pytest

from torchbase.command_line.literals import parse_literal, parse_text, parse_timestamp
from torchbase.errors import RunDirectoryError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.01", 0.01),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("9007199254740993", 2**53 + 1),
        ("-inf", -math.inf),
        ("true", True),
        ("False", False),
        ("null", None),
        ("None", None),
        ("[1, 2]", [1, 2]),
        ('"0.1"', "0.1"),
        ("'0.1'", "0.1"),
        ("'", "'"),
        ("adam", "adam"),
        ("__import__('os')", "__import__('os')"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_a_literal_is_a_number_a_word_json_or_a_text(text, value):
    assert parse_literal(text) == value
    assert type(parse_literal(text)) is type(value)


def test_nan_is_a_number():
    assert math.isnan(parse_literal("nan"))


def test_a_text_stays_a_text():
    assert (parse_text("2026"), parse_text("null"), parse_text("true")) == ("2026", None, "true")
    assert (parse_text('"a b"'), parse_text("'a b'"), parse_text("'a")) == ("a b", "a b", "'a")


def test_a_time_is_read_in_any_time_zone():
    assert parse_timestamp("2026-11-22T14:03:55+01:00") == parse_timestamp("2026-11-22T13:03:55Z")
    assert parse_timestamp("2026-11-22") == parse_timestamp("2026-11-22 00:00")
    assert parse_timestamp("null") is None
    with pytest.raises(RunDirectoryError, match="'noon' isn't a time"):
        parse_timestamp("noon")
