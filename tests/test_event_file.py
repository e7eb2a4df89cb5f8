import time

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from torchbase import event_file
from torchbase.event_file import EventFile


def scalars_in(folder):
    accumulator = EventAccumulator(str(folder)).Reload()
    return {tag: [(one.step, one.value) for one in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]}


def test_scalars_can_be_read_back(tmp_path):
    file = EventFile(tmp_path)
    file.add_scalars({"a": 1.0, "b": 2.0}, step=3)
    file.add_scalars({"a": float("nan")}, step=4)
    file.close()
    scalars = scalars_in(tmp_path)
    assert scalars["b"] == [(3, 2.0)]
    assert [step for step, _ in scalars["a"]] == [3, 4]


def test_a_reader_sees_what_was_flushed_while_the_file_is_open(tmp_path, monkeypatch):
    file = EventFile(tmp_path)
    file.add_scalars({"a": 1.0}, step=1)
    assert scalars_in(tmp_path) == {}
    file.flush()
    assert scalars_in(tmp_path) == {"a": [(1, 1.0)]}
    monkeypatch.setattr(event_file, "MAXIMUM_SECONDS_UNTIL_ON_DISK", 0.001)
    time.sleep(0.002)
    file.add_scalars({"a": 2.0}, step=2)
    assert scalars_in(tmp_path) == {"a": [(1, 1.0), (2, 2.0)]}
    file.close()


def test_files_made_one_after_the_other_are_read_in_their_order(tmp_path):
    for step in range(1, 4):
        file = EventFile(tmp_path)
        file.add_scalars({"a": float(step)}, step=step)
        file.close()
    assert len(list(tmp_path.iterdir())) == 3
    assert scalars_in(tmp_path) == {"a": [(1, 1.0), (2, 2.0), (3, 3.0)]}
