from rich.console import Console

from torchbase.command_line.run_table import Column, RunTable


def written(columns, width, capsys):
    table = RunTable(columns, width)
    Console(width=width).print(table)
    return capsys.readouterr().out.splitlines(), table.left_out


def test_columns_are_kept_by_their_rank_and_shown_in_their_order(capsys):
    columns = [
        Column("run", ["a", "b"]),
        Column("number", ["1", "22"], is_right=True, rank=2),
        Column("wide", ["x" * 20, ""], rank=3),
        Column("state", ["on", "off"], rank=1),
    ]
    assert written(columns, 80, capsys) == (
        [
            "run  number  wide                  state",
            f"a         1  {'x' * 20}  on",
            "b        22                        off",
        ],
        [],
    )
    assert written(columns, 20, capsys) == (["run  number  state", "a         1  on", "b        22  off"], ["wide"])
    assert written(columns, 11, capsys) == (["run  state", "a    on", "b    off"], ["number", "wide"])
    assert written(columns, 2, capsys)[0][0].startswith("ru")


def test_wide_characters_keep_the_columns_straight(capsys):
    lines, _ = written([Column("a", ["漢字", "ab"]), Column("b", ["1", "2"])], 80, capsys)
    assert lines == ["a     b", "漢字  1", "ab    2"]


def test_two_columns_may_have_the_same_head(capsys):
    lines, left_out = written([Column("a", ["1"]), Column("a", ["2"], rank=1)], 80, capsys)
    assert (lines, left_out) == (["a  a", "1  2"], [])
