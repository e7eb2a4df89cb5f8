import logging
import pickle

import pytest
import several
import torch
from divided import in_suite
from tiny import CONFIG, TinySession, config_with

from torchbase.errors import ProcessesDifferError, StepError


class Vocabulary:
    """Something that can't be pickled, as some tokenizers can't."""

    def __init__(self):
        self.scale = lambda x: 2 * x


class WithIngredients(TinySession):
    """Uses its ingredients in every method that can, and notes the order of the calls."""

    def __init__(self, *arguments, **keywords):
        self.called = []
        super().__init__(*arguments, **keywords)

    def init_ingredients(self):
        self.called.append("ingredients")
        return {"vocabulary": Vocabulary(), "draw": torch.rand(()).item()}

    def init_datasets(self):
        self.called.append(("datasets", self.ingredients["draw"]))
        return super().init_datasets()

    def init_network(self):
        self.called.append(("network", self.ingredients["draw"]))
        return super().init_network()

    def dataloader_collate_function(self, samples):
        mini_batch = super().dataloader_collate_function(samples)
        return {**mini_batch, "x": self.ingredients["vocabulary"].scale(mini_batch["x"])}

    def forward_pass(self, mini_batch):
        assert self.ingredients["vocabulary"].scale(1) == 2
        return super().forward_pass(mini_batch)


USES = {
    "call": lambda session: session(),
    "network": lambda session: session.network,
    "datasets": lambda session: session.dataset_train,
    "evaluate": lambda session: session.evaluate(TinySession.init_datasets(session)[0]),
    "predict": lambda session: list(session.predict(TinySession.init_datasets(session)[0])),
    "ingredients": lambda session: session.ingredients,
}


@pytest.mark.parametrize("use", in_suite(list(USES), "call", "evaluate", "predict"))
def test_they_are_built_first_and_once_whatever_is_used_first(tmp_path, use):
    session = WithIngredients(CONFIG, tmp_path)
    assert session.called == []
    USES[use](session)
    session()
    session.load_best_network()
    session.evaluate(session.dataset_train)
    assert session.called[0] == "ingredients"
    assert session.called.count("ingredients") == 1
    assert {draw for _, draw in session.called[1:]} == {session.ingredients["draw"]}


def test_they_change_no_other_random_stream(tmp_path):
    session, plain = WithIngredients(CONFIG, tmp_path), TinySession(CONFIG, tmp_path)
    weights = [one.network.state_dict() for one in (session, plain)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_workers_have_those_of_the_main_process(tmp_path):
    session = WithIngredients(config_with(dataloader_num_workers=2), tmp_path)
    session()
    assert session.called.count("ingredients") == 1


class Numbers(WithIngredients):
    def init_ingredients(self):
        self.called.append("ingredients")
        return {"factor": 2, "draw": None}

    dataloader_collate_function = TinySession.dataloader_collate_function

    def forward_pass(self, mini_batch):
        return TinySession.forward_pass(self, {**mini_batch, "x": self.ingredients["factor"] * mini_batch["x"]})


def test_a_worker_that_is_not_forked_receives_them_in_the_pickle_of_the_session(tmp_path):
    session = Numbers(CONFIG, tmp_path)
    _ = session.dataloader_train
    copied = pickle.loads(pickle.dumps(session))
    assert copied.ingredients == {"factor": 2, "draw": None}
    assert copied.called.count("ingredients") == 1


def test_a_replay_uses_those_that_are_there(tmp_path):
    session = Numbers(CONFIG, tmp_path)
    session()
    assert session.verify(replay=2).is_good
    assert session.called.count("ingredients") == 1


WRONG = {
    "forgot to return": (lambda self: None, "returned None, as a method without a return statement does"),
    "a generator": (lambda self: (word for word in "ab"), "returned a generator, which can be read only once"),
    "a class": (lambda self: Vocabulary, "returned the class Vocabulary, not an instance"),
    "itself": (lambda self: self.ingredients, "init_ingredients → init_ingredients"),
    "the datasets": (lambda self: self.dataset_train, "init_ingredients → init_datasets → init_ingredients"),
    "the network": (lambda self: self.network, "init_ingredients → init_network → init_ingredients"),
}


@pytest.mark.parametrize("name", WRONG)
def test_every_way_to_get_them_wrong_is_an_error(tmp_path, name):
    method, message = WRONG[name]
    kind = type("Wrong", (TinySession,), {"init_ingredients": method})
    with pytest.raises(StepError, match=message):
        kind(CONFIG, tmp_path)()
    assert list(tmp_path.iterdir()) == []


def test_without_the_method_they_are_an_error(tmp_path):
    with pytest.raises(StepError, match=r"TinySession has no such method\. To fix, write init_ingredients"):
        _ = TinySession(CONFIG, tmp_path).ingredients


def test_a_misspelt_method_is_named(tmp_path, caplog):
    kind = type("Misspelt", (TinySession,), {"init_ingredient": lambda self: 1})
    with caplog.at_level(logging.WARNING, "torchbase"):
        kind(CONFIG, tmp_path)
    assert "Did you mean 'init_ingredients'?" in caplog.text


NEEDED = {
    "init_network": (lambda self: self.network, "init_network → init_network"),
    "init_optimizer": (lambda self: self.optimizer, "init_optimizer → init_optimizer"),
    "init_datasets": (lambda self: self.datasets_valid_dict, "init_datasets → init_datasets"),
    "init_dataloaders": (lambda self: self.dataloader_train, "init_dataloaders → init_dataloaders"),
    "load_pretrained": (lambda self, network: self.network, "init_network → init_network"),
}


@pytest.mark.parametrize("name", NEEDED)
def test_a_method_that_needs_what_it_builds_itself_is_an_error(tmp_path, name):
    method, message = NEEDED[name]
    kind = type("Circular", (TinySession,), {name: method})
    with pytest.raises(StepError, match=f"can't use what it builds itself: {message}"):
        kind(CONFIG, tmp_path)()


class Unlike(TinySession):
    """Its ingredients differ between processes, as a set of words in Python does."""

    def init_ingredients(self):
        return {"vocabulary": {"a": self.processes.index}, "tokenizer": Vocabulary()}


def train_unlike(index, parent):
    with pytest.raises(ProcessesDifferError, match="in the ingredients, vocabulary"):
        Unlike(CONFIG, parent)()


def test_ingredients_that_differ_between_processes_are_an_error(tmp_path):
    several.values_of(2, train_unlike, tmp_path)
