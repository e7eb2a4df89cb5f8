import json
import math

from made_up import AVERAGES, make_run

from torchbase.command_line.following import BYTES_AT_FIRST, LOG_FILE, NewEpochs, NewIterations
from torchbase.run_directory.record import Epoch, append_epoch, truncate_epochs


def epoch_of(number, loss=math.nan):
    return Epoch(number, "training", number, {"loss": loss})


def test_only_new_averages_are_returned(tmp_path):
    folder = make_run(tmp_path, "run", averages={"training": [{"loss": math.nan}] * 2})
    new = NewEpochs()
    assert [epoch.epoch for epoch in new.look(folder)[0]] == [1, 2]
    assert new.look(folder) == ([], 0)
    append_epoch(folder, epoch_of(3, 0.5))
    assert new.look(folder) == ([epoch_of(3, 0.5)], 0)


def test_averages_that_a_resumed_run_repeats_are_returned_again(tmp_path):
    folder = make_run(tmp_path, "run")
    new = NewEpochs()
    assert len(new.look(folder)[0]) == 6
    truncate_epochs(folder, 4)
    assert new.look(folder) == ([], 2)
    append_epoch(folder, epoch_of(3, 0.25))
    assert new.look(folder) == ([epoch_of(3, 0.25)], 0)
    truncate_epochs(folder, 0)
    append_epoch(folder, epoch_of(1, 0.75))
    assert new.look(folder) == ([epoch_of(1, 0.75)], 5)


def test_damaged_averages_are_reported(tmp_path):
    folder = make_run(tmp_path, "run", averages=AVERAGES)
    with (folder / "epochs.jsonl").open("a") as lines:
        lines.write("nothing\n")
    new = NewEpochs()
    assert len(new.look(folder)[0]) == 6
    assert new.damages == [f"{folder / 'epochs.jsonl'} is damaged: 1 of its lines can't be read"]


def write(folder, step, end="\n", **values):
    with (folder / LOG_FILE).open("a") as log:
        for name, value in values.items():
            record = {"kind": "scalar", "time": 1.0, "tag": f"training/{name}/iterations", "step": step, "value": value}
            log.write(json.dumps(record) + end)


def test_the_values_of_the_last_iteration_are_read_once(tmp_path):
    new = NewIterations()
    assert new.look(tmp_path) is None
    (tmp_path / LOG_FILE).write_text('{"kind": "format", "version": 1}\n')
    assert new.look(tmp_path) is None
    write(tmp_path, 1, loss=0.5)
    write(tmp_path, 2, loss="NaN", accuracy=0.25)
    step, values = new.look(tmp_path)
    assert (step, values["accuracy"], math.isnan(values["loss"])) == (2, 0.25, True)
    assert new.look(tmp_path) is None
    write(tmp_path, 3, loss=0.125)
    assert new.look(tmp_path) == (3, {"loss": 0.125})


def test_an_incomplete_line_is_read_when_it_is_complete(tmp_path):
    new = NewIterations()
    write(tmp_path, 1, loss=0.5)
    write(tmp_path, 2, end="", loss=0.25)
    assert new.look(tmp_path) == (1, {"loss": 0.5})
    with (tmp_path / LOG_FILE).open("a") as log:
        log.write("\n")
    assert new.look(tmp_path) == (2, {"loss": 0.25})


def test_after_a_resume_the_values_are_read_again(tmp_path):
    new = NewIterations()
    for step in range(1, 6):
        write(tmp_path, step, loss=0.5)
    assert new.look(tmp_path) == (5, {"loss": 0.5})
    lines = (tmp_path / LOG_FILE).read_text().splitlines(keepends=True)
    (tmp_path / LOG_FILE).write_text("".join(lines[:3]))
    write(tmp_path, 4, loss=0.25)
    assert new.look(tmp_path) == (4, {"loss": 0.25})


def test_only_the_end_of_a_long_file_is_read_at_first(tmp_path):
    (tmp_path / LOG_FILE).write_text("x" * BYTES_AT_FIRST)
    for step in range(1000):
        write(tmp_path, step, loss=0.5)
    assert (tmp_path / LOG_FILE).stat().st_size > 2 * BYTES_AT_FIRST
    assert NewIterations().look(tmp_path) == (999, {"loss": 0.5})


def test_other_records_and_damaged_lines_are_passed_over(tmp_path):
    others = ['{"kind": "scalar"}', "[1]", "nothing", '{"kind": "text", "tag": "training/loss/iterations", "step": 9}']
    others.append('{"kind": "scalar", "tag": "training/loss/epochs", "step": 9, "value": 1.0}')
    others.append('{"kind": "scalar", "tag": "training/loss/iterations", "step": [], "value": 1.0}')
    (tmp_path / LOG_FILE).write_text("\n".join(others) + "\n")
    assert NewIterations().look(tmp_path) is None


def test_a_log_that_can_not_be_read_is_damage(tmp_path):
    (tmp_path / LOG_FILE).mkdir()
    new = NewIterations()
    assert new.look(tmp_path) is None
    assert LOG_FILE in new.damages[0]
