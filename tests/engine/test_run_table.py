from tiny import CONFIG, TinySession

from torchbase import Phase, Run, RunSummary, hookimpl
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


def test_a_run_and_its_session_say_how_far_they_are(tmp_path):
    shown = []

    class Show:
        @hookimpl
        def on_epoch_end(self, run):
            shown.append(run)

    session = TinySession(CONFIG, tmp_path)
    assert repr(session) == f"<TinySession: in {session.run_dir}>"
    session.register(Show())
    session()
    progress = f"2 of 2 epochs, {session._run.progress.iterations} iterations done, in {session.run_dir}"
    assert repr(session) == f"<TinySession: {progress}>"
    assert repr(shown[-1]) == f"<Run: {progress}>"
    for table in (session._repr_html_(), shown[-1]._repr_html_()):
        assert table.count("<tr>") == 1 + len(shown[-1].phases)
        assert progress in table


def test_a_session_that_could_not_be_set_up_has_a_repr():
    assert repr(TinySession.__new__(TinySession)) == "<TinySession: not set up>"


def test_a_run_of_limited_iterations_without_a_directory_has_a_repr():
    run = Run(training=Phase("training", [1], is_training=True), max_epochs=3, max_iterations=1000)
    assert repr(run) == "<Run: 0 of 3 epochs, 0 of 1,000 iterations done>"
    assert run._repr_html_() == "<p>&lt;Run: 0 of 3 epochs, 0 of 1,000 iterations done&gt;</p>"
