from torchbase import RunSummary
from torchbase.engine.run import BestLoss


def test_the_table_for_notebooks_escapes_markup():
    summary = RunSummary(
        run_dir="runs/<first>",
        epochs_done=3,
        best_losses={"validation-valid": BestLoss(0.123456, 2)},
        averages={"training": {"loss": 0.5, "a&b": 2.0}, "validation-valid": {"loss": 0.25}},
        stop_reason="all 3 epochs are done",
        iterations=15,
    )
    assert summary._repr_html_() == (
        "<table><tr><th></th><th>loss</th><th>a&amp;b</th><th>lowest loss</th><th>in epoch</th></tr>"
        "<tr><td>training</td><td>0.5</td><td>2</td><td></td><td></td></tr>"
        "<tr><td>validation-valid</td><td>0.25</td><td></td><td>0.1235</td><td>2</td></tr></table>"
        "<p>3 epochs, 15 iterations, all 3 epochs are done: runs/&lt;first&gt;</p>"
    )
