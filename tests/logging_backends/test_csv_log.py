from pathlib import Path

import pandas
from tiny import CONFIG, TinySession

from torchbase import hookimpl
from torchbase.hooks import CsvLog


class Odd:
    @hookimpl
    def on_run_end(self, run):
        odd = {"odd": float("nan"), "inf": -float("inf"), 'a, "b"': 0.1 + 0.2, "line\nbreak": 1e-300}
        run.call.log_scalars(run=run, scalars=odd, step=7)


def test_pandas_reads_exactly_the_values_that_were_logged(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    session.unregister("tensorboard")
    session.register(CsvLog())
    session.register(Odd())
    summary = session()
    table = pandas.read_csv(Path(session.run_dir, "scalars.csv"), converters={"value": float})
    assert list(table.columns) == ["step", "tag", "value"]
    curves = table.pivot(index="step", columns="tag", values="value")
    loss = curves["validation-valid/loss/epochs"].dropna()
    assert loss.index.tolist() == [1, 2]
    assert loss[2] == summary.averages["validation-valid"]["loss"]
    last = table[table.step == 7].set_index("tag")["value"]
    assert last['a, "b"'] == 0.1 + 0.2
    assert last["line\nbreak"] == 1e-300
    assert last["inf"] == -float("inf")
    assert last["odd"] != last["odd"]


def test_it_records_numbers_only(tmp_path):
    class LogText:
        @hookimpl
        def on_epoch_end(self, run):
            run.call.log_text(run=run, tag="t", text="a", step=1)

    session = TinySession(CONFIG, tmp_path)
    session.register(CsvLog())
    session.register(LogText())
    session()
    assert "t,a" not in Path(session.run_dir, "scalars.csv").read_text()
    assert {path.name for path in Path(session.run_dir).glob("*.csv")} == {"scalars.csv"}
