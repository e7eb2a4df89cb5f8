import pytest
from rich.console import Console
from rich.text import Text

from torchbase.command_line.grids import GridColumn, make_grids
from torchbase.command_line.terminal import Trimmed


def draw(names, columns, width, capsys):
    """The lines of each table."""
    tables = []
    for table in make_grids([Text(name) for name in names], columns, width):
        Console(width=width).print(Trimmed(table))
        tables.append(capsys.readouterr().out.splitlines())
    return tables


def column(header, *cells, is_right=True):
    return GridColumn(header, [Text(cell) for cell in cells], is_right)


def test_columns_that_do_not_fit_are_in_another_table(capsys):
    columns = [column("A", "1.0", "22"), column("B", "3", "4"), column("long", "5", "6")]
    assert draw(["x", "yy"], columns, 40, capsys) == [["      A  B  long", "x   1.0  3     5", "yy   22  4     6"]]
    assert draw(["x", "yy"], columns, 11, capsys) == [
        ["      A  B", "x   1.0  3", "yy   22  4"],
        ["    long", "x      5", "yy     6"],
    ]


def test_a_long_name_is_folded_and_its_row_stays_recognizable(capsys):
    (lines,) = draw(["n" * 25, "m"], [column("A", "1.0", "2.0")], 24, capsys)
    assert lines == ["                A", "nnnnnnnnnnnn  1.0", "    nnnnnnnn", "    nnnnn", "m             2.0"]


def test_a_long_text_breaks_between_words(capsys):
    (lines,) = draw(["name"], [column("", "0.123456 " * 5, is_right=False)], 30, capsys)
    assert lines == ["name  0.123456 0.123456", "      0.123456 0.123456", "      0.123456"]


@pytest.mark.parametrize("width", [1, 2, 5, 9])
def test_any_width_is_drawn(capsys, width):
    assert draw(["a long name"], [column("header", "0.5")], width, capsys)


def test_no_columns_make_no_table(capsys):
    assert draw(["name"], [], 80, capsys) == []
