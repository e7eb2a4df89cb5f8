from itertools import chain

import pytest
import torch
from tiny import CONFIG, TinySession, config_with

from torchbase.errors import TorchbaseError

NEEDED = [
    "init_datasets",
    "init_network",
    "init_optimizer",
    "init_dataloaders",
    "dataloader_collate_function",
    "forward_pass",
    "loss_function",
    "get_loss_value",
    "infer_mini_batch_size",
]
NOT_NEEDED = ["init_metrics", "init_scheduler"]


def without_return(method):
    if method == "loss_function":
        return type("Wrong", (TinySession,), {method: lambda self, *, output, target: None})
    if method == "get_loss_value":
        return type("Wrong", (TinySession,), {method: lambda self, *, loss_tensor: None})
    return type("Wrong", (TinySession,), {method: lambda self, *arguments: None})


@pytest.mark.parametrize("method", NEEDED)
def test_a_method_without_a_return_statement_is_named_before_training(tmp_path, method):
    session = without_return(method)(CONFIG, tmp_path)
    with pytest.raises(TorchbaseError, match=rf"{method}.*None|None.*{method}"):
        session()
    assert session._run_directory.path.exists() is False


@pytest.mark.parametrize("method", NOT_NEEDED)
def test_a_method_that_may_return_nothing_may_lack_a_return_statement(tmp_path, method):
    assert without_return(method)(CONFIG, tmp_path)().epochs_done == 2


def test_the_message_says_where_none_comes_from(tmp_path):
    with pytest.raises(TorchbaseError) as caught:
        without_return("loss_function")(CONFIG, tmp_path)()
    assert str(caught.value) == (
        "loss_function has to return a tensor of shape (), but returned None, as a method without a return statement "
        "does. To fix, return the loss, and don't call .item() or float() on it. Only in validation it may return "
        "None, for no loss."
    )


SCHEDULES = [
    lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1),
    lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, 10),
    lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10),
    lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.9),
]


def scheduled(returned):
    class Scheduled(TinySession):
        def init_scheduler(self):
            return returned(self)

    return Scheduled


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_scheduler_that_is_not_returned_is_an_error(tmp_path, schedule):
    kind = scheduled(lambda session: [schedule(session.optimizer)].clear())
    with pytest.raises(TorchbaseError, match="init_scheduler made a scheduler of the Adam, but returned None"):
        kind(CONFIG, tmp_path)()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_scheduler_of_another_optimizer_is_an_error(tmp_path, schedule):
    kind = scheduled(lambda session: schedule(torch.optim.SGD(session.network.parameters(), lr=0.1)))
    with pytest.raises(TorchbaseError, match="changes the rates of another optimizer than the Adam that trains"):
        kind(CONFIG, tmp_path)()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_scheduler_of_init_optimizer_may_be_stepped_elsewhere(tmp_path, schedule):
    class Own(TinySession):
        def init_optimizer(self):
            optimizer = super().init_optimizer()
            self.scheduler = schedule(optimizer)
            return optimizer

    assert Own(CONFIG, tmp_path)().epochs_done == 2


ITERATORS = {
    "generator": lambda loader: (mini_batch for mini_batch in loader),
    "list_iterator": lambda loader: iter(list(loader)),
    "map": lambda loader: map(dict, loader),
    "zip": lambda loader: zip(loader, loader, strict=True),
    "chain": lambda loader: chain(loader),
}


def iterated(make, phase):
    class Iterated(TinySession):
        def init_dataloaders(self):
            training, validation = super().init_dataloaders()
            if phase == "training":
                return make(training), validation
            return training, {**validation, phase: make(validation[phase])}

    return Iterated


@pytest.mark.parametrize("phase", ["training", "valid"])
@pytest.mark.parametrize("name", ITERATORS)
def test_a_loader_that_ends_after_the_first_epoch_is_an_error(tmp_path, name, phase):
    with pytest.raises(TorchbaseError, match=f"for {phase} is a {name}, which can be iterated only once"):
        iterated(ITERATORS[name], phase)(CONFIG, tmp_path)()


def test_one_epoch_may_have_an_iterator(tmp_path):
    kind = iterated(ITERATORS["generator"], "training")
    assert kind(config_with(num_epochs=1), tmp_path)().epochs_done == 1


class BeginsAgain:
    def __init__(self, loader):
        self.loader = loader

    def __iter__(self):
        self.iterator = iter(self.loader)
        return self

    def __next__(self):
        return next(self.iterator)


@pytest.mark.parametrize("phase", ["training", "valid"])
def test_an_iterator_that_begins_again_is_a_loader(tmp_path, phase):
    assert iterated(BeginsAgain, phase)(CONFIG, tmp_path)().epochs_done == 2
