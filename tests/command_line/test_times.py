import sys

import pytest

from torchbase.command_line.times import format_duration, format_time, parse_time


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no TZ")
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-11-22T14:03:55+01:00", "2026-11-22 18:33:55 +0530"),
        ("2026-11-22T14:03:55.987654-07:00", "2026-11-23 02:33:55 +0530"),
        ("2026-11-22T14:03:55", "2026-11-22 14:03:55 +0530"),
        ("at noon\n", "at noon\\n"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00"),
    ],
)
def test_a_time_is_shown_in_the_time_zone_of_the_machine(text, shown):
    assert format_time(text) == shown


def test_what_is_no_time_is_none():
    assert parse_time("noon") is None
    assert parse_time("2026-11-22T14:03:55+01:00") == parse_time("2026-11-22T13:03:55+00:00")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0.0, "0.00s"),
        (9.994, "9.99s"),
        (9.995, "10.0s"),
        (59.94, "59.9s"),
        (59.96, "1m00s"),
        (184.4, "3m04s"),
        (3599.4, "59m59s"),
        (3599.6, "1h00m"),
        (7505.0, "2h05m"),
        (86_399.0, "1d00h"),
        (273_600.0, "3d04h"),
        (3.2e7, "370d09h"),
    ],
)
def test_a_duration_has_about_three_digits_and_no_spaces(seconds, shown):
    assert format_duration(seconds) == shown
