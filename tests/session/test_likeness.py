"""What has to be the same on each process is compared before training."""

import importlib.util
import sys
from datetime import UTC, datetime

import pytest
import several
import torch
from datasets import Dataset, IterableDataset
from every_technique import PlainNetwork, PlainSession, session_with
from tiny import config_with, make_dataset

from torchbase import ValidationDatasetsDict, hookimpl
from torchbase.distributed.processes import SingleProcess
from torchbase.session.likeness import DIFFERENCES_SHOWN, check_alike, code_of, describe_dataset


class SameSession(PlainSession):
    """Differs on process 1 in one respect."""

    differs_in = None

    def is_other(self, respect):
        return self.differs_in == respect and self.processes.index == 1

    def init_datasets(self):
        rows = 19 if self.is_other("rows") else 18
        training = make_dataset(rows, 0.5 if self.is_other("content") else 0.0)
        if self.is_other("columns"):
            training = training.remove_columns("name")
        if self.is_other("order"):
            training = training.shuffle(seed=1)
        if self.is_other("kind"):
            training = training.to_iterable_dataset()
        names = ("other",) if self.is_other("validation sets") else ("valid",)
        return training, ValidationDatasetsDict(datasets=(make_dataset(10),), only_for_demo=(False,), names=names)

    def init_network(self):
        network = PlainNetwork()
        if self.is_other("weights"):
            torch.nn.init.zeros_(network[0].weight)
        if self.is_other("layers"):
            network.append(torch.nn.Identity())
            network.append(torch.nn.BatchNorm1d(1))
        return network

    def init_optimizer(self):
        return torch.optim.SGD(self.network.parameters(), lr=0.2 if self.is_other("learning rate") else 0.1)

    def init_dataloaders(self):
        training, validation = super().init_dataloaders()
        return list(training.mini_batches(1))[:3] if self.is_other("loader") else training, validation


class Hook:
    @hookimpl
    def on_epoch_end(self):
        pass


def train_with(index, parent, respect):
    SameSession.differs_in = respect
    session = session_with(parent, kind=SameSession)
    if session.is_other("hooks"):
        session.register(Hook())
    for name in ("one", "another")[:: -1 if session.is_other("order of hooks") else 1]:
        session.register(Hook(), name)
    session()


RESPECTS = {
    "rows": "in the data of training, length: 18 on process 0, 19 on process 1",
    "content": "in the data of training, rows: '16 of them with checksum ",
    "order": "in the data of training, rows: '16 of them with checksum ",
    "columns": "in the data of training, columns.name: \"Value('string')\" on process 0, not given on process 1",
    "kind": "in the data of training, class: 'Dataset' on process 0, 'IterableDataset' on process 1",
    "validation sets": "in the data of validation-other, class: not given on process 0, 'Dataset' on process 1",
    "weights": "in the network, ['0.weight']: '(8, 3) of torch.float32, checksum ",
    "layers": "in the network, ['5.bias']: not given on process 0, '(1,) of torch.float32, checksum ",
    "learning rate": "in the optimizer, groups[0].lr: 0.1 on process 0, 0.2 on process 1",
    "loader": "in the loader of training, class: 'MiniBatchLoader' on process 0, 'SeededLoader' on process 1",
    "hooks": "in the hooks, hook: not given on process 0, 'Hook' on process 1",
    "order of hooks": "in the order of the hooks, names: '",
}


@pytest.mark.parametrize("respect", RESPECTS)
def test_what_differs_on_a_process_is_named_on_each(tmp_path, respect):
    for ended in several.run(2, train_with, tmp_path, respect):
        assert ended.exit_code == 0
        assert "ProcessesDifferError: The processes of this training differ from process 0:\n" in ended.error
        assert f"\n- {RESPECTS[respect]}" in ended.error
        assert "start the same program with the same arguments" in ended.error
    assert list(tmp_path.iterdir()) == []  # each process has shown all that there is to know


def with_other(index, parent, what):
    config = config_with()
    if what == "config":
        config["session"]["learning_rate"] += 0.1 * index
        config["data"] = {"transforms": ["flip"] * index}
    if what == "torch":
        torch.__version__ = f"2.{index}"
    if what == "code":
        file = parent / f"machine-{index}" / "train.py"
        file.parent.mkdir()
        source = "from every_technique import PlainSession\nclass Session(PlainSession):\n    pass\n"
        file.write_text(source + "# an older version\n" * index)
        specification = importlib.util.spec_from_file_location("train", file)
        module = sys.modules["train"] = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        module.Session(config, parent / "runs")
    PlainSession(config, parent / "runs")


OTHERS = {
    "config": [
        "in the config, data.transforms: [] on process 0, ['flip'] on process 1",
        "in the config, session.learning_rate: 0.05 on process 0, ",
    ],
    "torch": ["in the versions, torch: '2.0' on process 0, '2.1' on process 1"],
    "code": ["in the code, Session: 'train.py with checksum "],
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_program_is_named_before_a_run_directory_is_made(tmp_path, what):
    for ended in several.run(2, with_other, tmp_path, what):
        assert "ProcessesDifferError" in ended.error
        for line in OTHERS[what]:
            assert f"\n- {line}" in ended.error
    assert not (tmp_path / "runs").exists()


def with_many_differences(index):
    from torchbase.distributed.joining import join

    check_alike(join(), lambda: {"the values": {f"value {number:02}": number * index for number in range(30)}})


def test_of_many_differences_the_first_are_shown():
    first, _ = several.run(2, with_many_differences)
    assert first.error.count("\n- in the values") == DIFFERENCES_SHOWN
    assert f"\n- {29 - DIFFERENCES_SHOWN} more\n" in first.error


def test_a_process_alone_compares_nothing():
    check_alike(SingleProcess(), lambda: pytest.fail("facts take time"))


ROWS = [
    {"number": 1.5, "text": "a", "list": [1, 2], "bytes": b"\0", "time": datetime(2026, 1, 1, tzinfo=UTC), "no": None},
    {"number": float("nan"), "text": "b", "list": [], "bytes": b"", "time": None, "no": None},
] * 20


def test_equal_data_is_described_equally_however_it_was_made(tmp_path):
    one = Dataset.from_list(ROWS)
    one.save_to_disk(tmp_path / "saved")
    others = [
        Dataset.from_list(ROWS),
        Dataset.load_from_disk(tmp_path / "saved"),
        Dataset.from_list([*ROWS, *ROWS]).select(range(40)),
        one.select([*range(40)]),
        one.with_transform(lambda batch: {"number": [0.0 for _ in batch["number"]]}),
        one.with_format("torch", columns=["number"]),
    ]
    assert [describe_dataset(other) for other in others] == [describe_dataset(one)] * len(others)


def test_other_data_is_described_differently():
    one = Dataset.from_list(ROWS)
    others = [
        one.select(range(39)),
        one.shuffle(seed=1),
        one.remove_columns("no"),
        one.cast_column("number", one.features["number"].__class__("float32")),
        Dataset.from_list([*ROWS[:-1], {**ROWS[-1], "text": "c"}]),
        one.to_iterable_dataset(),
    ]
    described = [describe_dataset(other) for other in (one, *others)]
    assert all(described.count(description) == 1 for description in described)


@pytest.mark.parametrize("length", [0, 1, 2, 15, 16, 17, 1000])
def test_a_dataset_of_any_length_is_described(length):
    described = describe_dataset(Dataset.from_dict({"x": list(range(length))}))
    assert described["rows"].startswith(f"{min(length, 16)} of them")


def test_of_large_rows_fewer_are_compared():
    one = Dataset.from_dict({"x": [bytes(2**20)] * 40})
    assert describe_dataset(one)["rows"].startswith("9 of them")


def test_of_a_stream_the_shards_are_compared():
    def examples(files):
        yield from ({"x": file} for file in files)

    stream = IterableDataset.from_generator(examples, gen_kwargs={"files": [1, 2, 3]})
    described = describe_dataset(stream)
    assert (described["length"], described["shards"]) == (None, 3)


def test_the_code_of_classes_of_torch_and_of_a_notebook_is_left_out():
    shown = type("Shown", (torch.nn.Linear,), {"__module__": "a_notebook"})
    assert code_of([shown, torch.nn.Linear, dict]) == {}
    assert [*code_of([PlainNetwork])] == ["PlainNetwork"]
