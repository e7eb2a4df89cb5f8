from rich.console import Console

from torchbase.command_line.run_table import Column, RunTable


def print_table(columns, width, capsys):
    table = RunTable(columns, width)
    Console(width=width).print(table)
    return capsys.readouterr().out.splitlines(), table.hidden


def test_columns_are_chosen_by_rank_and_shown_in_order(capsys):
    columns = [
        Column("run", ["a", "b"]),
        Column("number", ["1", "22"], is_right=True, rank=2),
        Column("wide", ["x" * 20, ""], rank=3),
        Column("state", ["on", "off"], rank=1),
    ]
    assert print_table(columns, 80, capsys) == (
        [
            "run  number  wide                  state",
            f"a         1  {'x' * 20}  on",
            "b        22                        off",
        ],
        [],
    )
    assert print_table(columns, 20, capsys) == (["run  number  state", "a         1  on", "b        22  off"], ["wide"])
    assert print_table(columns, 11, capsys) == (["run  state", "a    on", "b    off"], ["number", "wide"])
    assert print_table(columns, 2, capsys)[0][0].startswith("ru")


def test_columns_with_wide_characters_are_aligned(capsys):
    lines, _ = print_table([Column("a", ["漢字", "ab"]), Column("b", ["1", "2"])], 80, capsys)
    assert lines == ["a     b", "漢字  1", "ab    2"]


def test_two_columns_may_have_the_same_header(capsys):
    lines, hidden = print_table([Column("a", ["1"]), Column("a", ["2"], rank=1)], 80, capsys)
    assert (lines, hidden) == (["a  a", "1  2"], [])
