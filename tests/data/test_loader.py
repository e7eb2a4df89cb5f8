import json
import os
import pickle
import random
from textwrap import dedent

import numpy as np
import pytest
import torch
from datasets import Dataset
from divided import in_suite

from torchbase.data.loader import MiniBatchLoader
from torchbase.data.order import EpochOrder
from torchbase.errors import DataError
from torchbase.randomness.run_randomness import Randomness
from torchbase.randomness.streams import capture_streams

ROWS, SIZE = 22, 4
MINI_BATCHES = 6

# The tests don't depend on the number of cores.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


def plain_dataset():
    return Dataset.from_dict({"row": list(range(ROWS)), "x": [[row / 2, row / 4] for row in range(ROWS)]})


def augment(batch):
    # From the three random streams that a transform can draw from, separately for each sample.
    drawn = [[torch.rand(1).item(), np.random.rand(), random.random()] for _ in batch["row"]]
    return {"row": batch["row"], "drawn": [torch.tensor(numbers) for numbers in drawn]}


def augmented_dataset():
    return plain_dataset().with_transform(augment)


def collate_with_noise(samples):
    numbers = torch.stack([sample["x"] for sample in samples])
    drawn = torch.rand(len(samples), 1) + np.random.rand() + random.random()
    return {"row": torch.stack([sample["row"] for sample in samples]), "drawn": numbers + drawn}


def loader_of(dataset, *, shuffle=True, phase="training", seed=3, **options):
    return MiniBatchLoader(dataset, EpochOrder(ROWS, SIZE, shuffle, phase, Randomness(seed)), **options)


def read(loader, epoch=1, start=0):
    """Reads the mini-batches as plain values, for comparison."""
    mini_batches = loader.mini_batches(epoch, start)
    return [{name: values.tolist() for name, values in mini_batch.items()} for mini_batch in mini_batches]


KINDS = [(augmented_dataset, None), (plain_dataset, collate_with_noise), (plain_dataset, None)]


@pytest.mark.parametrize(("make_dataset", "collate"), KINDS, ids=["transform", "collate", "plain"])
@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_workers_change_neither_the_order_nor_the_random_numbers(make_dataset, collate, num_workers):
    expected = loader_of(make_dataset(), collate=collate)
    loader = loader_of(make_dataset(), collate=collate, num_workers=num_workers)
    for epoch in (1, 2, 1):
        assert read(loader, epoch) == read(expected, epoch)
    assert read(loader, 2, start=4) == read(expected, 2)[4:]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_no_sample_is_lost_or_repeated(num_workers):
    loader = loader_of(plain_dataset(), num_workers=num_workers)
    assert len(loader) == MINI_BATCHES
    for epoch in (1, 2):
        rows = [row for mini_batch in read(loader, epoch) for row in mini_batch["row"]]
        assert sorted(rows) == list(range(ROWS))
        assert rows != list(range(ROWS))
    assert read(loader_of(plain_dataset(), shuffle=False, num_workers=num_workers))[1]["row"] == [4, 5, 6, 7]


def test_columns_of_numbers_are_tensors():
    (first, *_) = loader_of(plain_dataset(), shuffle=False)
    assert torch.equal(first["row"], torch.arange(SIZE))
    assert torch.equal(first["x"], torch.tensor([[0.0, 0.0], [0.5, 0.25], [1.0, 0.5], [1.5, 0.75]]))


def test_a_collate_function_is_called_with_a_dictionary_of_tensors_per_sample():
    calls = []
    (first, *_) = loader_of(plain_dataset(), shuffle=False, collate=lambda samples: calls.append(samples) or {"a": 1})
    assert first == {"a": 1}
    assert [sample["row"].item() for sample in calls[0]] == [0, 1, 2, 3]
    assert torch.equal(calls[0][3]["x"], torch.tensor([1.5, 0.75]))


@pytest.mark.parametrize(("make_dataset", "collate"), KINDS[:2], ids=["transform", "collate"])
def test_random_numbers_depend_on_the_epoch_the_mini_batch_the_phase_and_the_seed(make_dataset, collate):
    loader, other_phase, other_seed = (
        loader_of(make_dataset(), collate=collate, **options) for options in ({}, {"phase": "other"}, {"seed": 4})
    )
    whole = [*read(loader, 1), *read(loader, 2), *read(other_phase, 1), *read(other_seed, 1)]
    drawn = [numbers[0] for mini_batch in whole for numbers in mini_batch["drawn"]]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize(("make_dataset", "collate"), KINDS, ids=["transform", "collate", "plain"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_reading_does_not_change_the_global_random_streams(make_dataset, collate, num_workers):
    loader = loader_of(make_dataset(), collate=collate, num_workers=num_workers)
    before = capture_streams()
    loader.first_mini_batch()
    for _ in loader.mini_batches(1, start=3):
        after = capture_streams()
        assert after["random"] == before["random"]
        assert torch.equal(after["torch"], before["torch"])
        assert torch.equal(after["numpy"]["key"], before["numpy"]["key"])
        assert after["numpy"]["position"] == before["numpy"]["position"]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_random_numbers_drawn_elsewhere_have_no_effect(num_workers):
    loader = loader_of(augmented_dataset(), num_workers=num_workers)
    expected = read(loader)
    collate_with_noise([{"row": torch.zeros(1), "x": torch.zeros(1)}])
    assert read(loader) == expected


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("taken", [0, 1, 3])
def test_an_unfinished_iterator_does_not_affect_the_next(num_workers, taken):
    expected = read(loader_of(augmented_dataset()), 2, start=1)
    loader = loader_of(augmented_dataset(), num_workers=num_workers)
    unfinished = loader.mini_batches(1)
    for _ in range(taken):
        next(unfinished)
    assert read(loader, 2, start=1) == expected


def test_the_first_mini_batch_is_read_without_starting_a_worker():
    dataset = plain_dataset().with_transform(lambda batch: {"read in": [os.getpid()]})
    assert loader_of(dataset, num_workers=1).first_mini_batch()["read in"].item() == os.getpid()


@pytest.mark.parametrize(("make_dataset", "collate"), KINDS, ids=["transform", "collate", "plain"])
def test_first_mini_batch_equals_that_of_the_first_epoch(make_dataset, collate):
    loader = loader_of(make_dataset(), collate=collate)
    first = {name: values.tolist() for name, values in loader.first_mini_batch().items()}
    assert first == read(loader)[0]
    assert first == {name: values.tolist() for name, values in next(iter(loader)).items()}


def fail_at_row_6(batch):
    if 6 in batch["row"]:
        raise LookupError("no such sample")
    return {"row": batch["row"]}


def error_while_reading(loader):
    try:
        read(loader)
    except Exception as error:
        return error.with_traceback(
            None
        )  # a traceback keeps workers alive until garbage collection, which takes seconds
    return None


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_error_while_reading_names_the_samples(num_workers):
    loader = loader_of(plain_dataset().with_transform(fail_at_row_6), shuffle=False, num_workers=num_workers)
    error = error_while_reading(loader)
    text = "".join([str(error), *getattr(error, "__notes__", [])])
    assert isinstance(error, LookupError)
    assert "no such sample" in text
    assert "while reading mini-batch 2 of epoch 1 of training: samples [4, 5, 6, 7]" in text
    assert len(read(loader, start=2)) == MINI_BATCHES - 2


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_collate_function_without_a_return_value_is_refused(num_workers):
    loader = loader_of(plain_dataset(), collate=lambda samples: None, num_workers=num_workers)
    error = error_while_reading(loader)
    assert isinstance(error, DataError)
    assert "dataloader_collate_function has to return a mini-batch, but returned None" in str(error)


@pytest.mark.parametrize(("make_dataset", "collate"), KINDS, ids=["transform", "collate", "plain"])
def test_a_loader_can_be_pickled(make_dataset, collate):
    loader = loader_of(make_dataset(), collate=collate)
    assert read(pickle.loads(pickle.dumps(loader)), 2) == read(loader, 2)


START_METHODS = dedent("""
    import json, random, sys, warnings
    import numpy as np
    import torch
    from datasets import Dataset
    from torchbase.data.loader import MiniBatchLoader
    from torchbase.data.order import EpochOrder
    from torchbase.randomness.run_randomness import Randomness

    warnings.filterwarnings("error", module="torchbase")  # of other packages on themselves is none of its business

    def augment(batch):
        drawn = [[torch.rand(1).item(), np.random.rand(), random.random()] for _ in batch["row"]]
        return {"row": batch["row"], "drawn": [torch.tensor(numbers) for numbers in drawn]}

    def read(num_workers):
        order = EpochOrder(len(dataset), 4, True, "training", Randomness(3))
        loader = MiniBatchLoader(dataset, order, num_workers=num_workers)
        return [{name: values.tolist() for name, values in one.items()} for one in loader.mini_batches(2, 1)]

    if __name__ == "__main__":
        dataset = Dataset.from_dict({"row": list(range(22))}).with_transform(augment)
        torch.multiprocessing.set_start_method(sys.argv[1])
        print(json.dumps([read(0), read(2)]))
""")


# tests/session/test_base.py trains with a spawned worker, which takes seconds for its imports.
@pytest.mark.parametrize("start_method", in_suite(["fork", "spawn"], "fork"))
def test_the_start_method_of_workers_has_no_effect(programs, start_method, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(START_METHODS)
    done = programs.run(script, start_method)
    assert done.returncode == 0, done.stderr
    without_workers, with_workers = json.loads(done.stdout)
    assert with_workers == without_workers
    assert without_workers == read(loader_of(augmented_dataset()), 2, 1)
