import json
import logging
from pathlib import Path

import pytest
import several
import torch
from divided import in_suite
from tiny import CONFIG, StopAt, TinySession, config_with

from torchbase.errors import CheckpointError, RunDirectoryError, StepError
from torchbase.files.bitwise import different_values
from torchbase.session.saved_network import find_saved_network


def weights_of(session):
    return {name: one.clone() for name, one in session.network.state_dict().items()}


class Pretrained(TinySession):
    """Loads the weights of a file, and counts how often."""

    file = None
    loaded = 0

    def load_pretrained(self, network):
        type(self).loaded += 1
        network.load_state_dict(torch.load(self.file, weights_only=True))


@pytest.fixture
def kind(tmp_path):
    network = TinySession(CONFIG, tmp_path / "other").init_network()
    torch.save(network.state_dict(), tmp_path / "file.pth")
    return type("Pretrained", (Pretrained,), {"file": tmp_path / "file.pth"})


def test_a_new_run_starts_from_the_weights_of_the_file(tmp_path, kind):
    session = kind(CONFIG, tmp_path / "runs")
    assert different_values(weights_of(session), torch.load(kind.file, weights_only=True)) == []
    session()
    assert kind.loaded == 1


@pytest.mark.parametrize("stop_at", in_suite([3, None], 3))
def test_a_run_is_resumed_and_opened_without_the_file(tmp_path, kind, stop_at):
    whole = kind(CONFIG, tmp_path / "whole")
    whole()
    session = kind(CONFIG, tmp_path / "runs")
    if stop_at is not None:
        session.register(StopAt(stop_at))
    session()
    kind.file.unlink()
    opened = kind.resume(tmp_path / "runs")
    assert opened.evaluate(opened.dataset_train).keys() == {"loss"}
    resumed = kind.resume(tmp_path / "runs")
    resumed()
    assert different_values(weights_of(resumed), weights_of(whole)) == []
    assert kind.loaded == 2


def without_results(session):
    """Returns the folder of runs as it is if the program is killed before its first checkpoint."""
    session._run_directory.unlock()
    return Path(session.run_dir).parent


@pytest.mark.parametrize("way", ["resume", "begin_or_resume"])
def test_a_run_that_was_killed_before_its_first_checkpoint_starts_from_the_file_again(tmp_path, kind, way):
    if way == "resume":
        runs = without_results(kind(CONFIG, tmp_path / "runs"))
        again = kind.resume(runs, next(runs.iterdir()).name)
    else:
        without_results(kind.begin_or_resume(CONFIG, tmp_path / "runs", tag="a"))
        again = kind.begin_or_resume(CONFIG, tmp_path / "runs", tag="a")
    assert different_values(weights_of(again), torch.load(kind.file, weights_only=True)) == []


def trained_source(parent, kind=TinySession, **config):
    source = kind({**config_with(num_epochs=1), **config}, parent)
    source()
    return source, Path(source.run_dir).name


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_from_its_source_again(tmp_path):
    source, tag = trained_source(tmp_path)
    session = TinySession(config_with(seed=3), tmp_path, source_run_dir_tag=tag, source_network="last")
    run = Path(session.run_dir)
    file, checksum = find_saved_network(Path(source.run_dir), "last")
    assert checksum is not None
    assert json.loads((run / "source.json").read_text()) == {
        "run": tag, "network": "last", "strict": True, "file": file, "checksum": checksum
    }  # fmt: skip
    without_results(session)
    again = TinySession.resume(tmp_path, run.name)
    assert different_values(weights_of(again), weights_of(source)) == []
    again()
    before = (run / "source.json").read_bytes()
    opened = TinySession.resume(tmp_path, run.name)
    opened.load_best_network()
    assert (run / "source.json").read_bytes() == before


def test_a_run_that_was_removed_as_unused_names_its_source_when_it_is_made_again(tmp_path):
    _, tag = trained_source(tmp_path)
    session = TinySession(CONFIG, tmp_path, source_run_dir_tag=tag)
    session.close()
    assert not Path(session.run_dir).exists()
    _ = session.network
    assert not Path(session.run_dir).exists()
    session()
    saved = json.loads((Path(session.run_dir) / "source.json").read_text())
    assert saved["run"] == tag
    assert saved["taken"] == list(session.network.state_dict())


def test_with_a_source_run_no_file_is_loaded_and_this_is_said_once(tmp_path, kind, caplog):
    source, tag = trained_source(tmp_path / "runs")
    with caplog.at_level(logging.WARNING, "torchbase"):
        session = kind(CONFIG, tmp_path / "runs", source_run_dir_tag=tag)
        assert different_values(weights_of(session), weights_of(source)) == []
    assert kind.loaded == 0
    assert (
        caplog.text.count(f"load_pretrained isn't called, since the run starts from the network of {source.run_dir}")
        == 1
    )


def test_a_run_with_its_best_network_and_no_checkpoint_is_opened_and_not_trained_from_the_start(tmp_path, kind):
    session = kind(CONFIG, tmp_path / "runs")
    session.unregister("checkpoint")
    session()
    kind.file.unlink()
    opened = kind.resume(tmp_path / "runs", Path(session.run_dir).name)
    opened.load_best_network()
    with pytest.raises(CheckpointError, match="has saved its best network, and no checkpoint to resume from"):
        opened()


def frozen(self, network):
    network.layers[0].weight.requires_grad_(False)


def of_names(self, network):
    network.load_state_dict({"of.another": torch.ones(1)}, strict=False)


def in_evaluation_mode(self, network):
    network.layers[1].eval()


def with_another_head(self, network):
    network.layers[3] = torch.nn.Linear(8, 2)


WRONG = {
    "returns a network": (lambda self, network: self.init_network(), "returned a TinyNetwork, which isn't used"),
    "loads nothing": (lambda self, network: None, "changed no parameter and no buffer"),
    "names that don't match": (of_names, "changed no parameter and no buffer"),
    "freezes": (frozen, r"changed more than values: .* of layers.0.weight\. It isn't called when the run is resumed"),
    "a mode": (in_evaluation_mode, "changed more than values: .* of layers.1"),
    "another head": (with_another_head, "changed more than values: .* of layers.3.weight, layers.3.bias"),
}


@pytest.mark.parametrize("name", WRONG)
def test_every_way_to_load_wrongly_is_an_error(tmp_path, name):
    method, message = WRONG[name]
    with pytest.raises(StepError, match=message):
        type("Wrong", (TinySession,), {"load_pretrained": method})(CONFIG, tmp_path)()
    assert list(tmp_path.iterdir()) == []


def in_the_memory(self, network):
    for parameter in network.parameters():
        parameter.data.copy_(torch.ones_like(parameter))  # which torch doesn't count


def by_assignment(self, network):
    network.load_state_dict({name: one.clone() for name, one in network.state_dict().items()}, assign=True)


@pytest.mark.parametrize("method", [in_the_memory, by_assignment])
def test_every_way_to_set_values_is_seen(tmp_path, method):
    _ = type("Right", (TinySession,), {"load_pretrained": method})(CONFIG, tmp_path).network


def train_on_several(index, parent, kind, distributed):
    session = kind(config_with(mini_batch_parts=2, mini_batch_size=6, distributed=distributed), parent)
    _ = session.network
    return kind.loaded


@pytest.mark.parametrize("distributed", in_suite(["replicate", "shard"], "shard"))
def test_the_file_is_loaded_by_each_process_or_by_the_main_process_of_a_sharded_network(tmp_path, kind, distributed):
    if distributed == "shard" and (reason := several.reason_against_sharding()) is not None:
        pytest.skip(reason)
    loaded = several.values_of(2, train_on_several, tmp_path / "runs", kind, distributed)
    assert loaded == ([1, 1] if distributed == "replicate" else [1, 0])


class Head(torch.nn.Module):
    """The layers of a tiny network with another head, and one more layer."""

    def __init__(self, dropout):
        super().__init__()
        layers = [torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(dropout), torch.nn.Linear(8, 4)]
        self.layers, self.last = torch.nn.Sequential(*layers), torch.nn.Linear(4, 1)

    def forward(self, x):
        return self.last(self.layers(x)).squeeze(1)


class HeadSession(TinySession):
    def init_network(self):
        return Head(0.1)


HEAD = {**config_with(num_epochs=1), "network": {"architecture": "Head"}}


@pytest.mark.parametrize("which", in_suite(["best", "last"], "last"))
def test_another_head_takes_what_matches_and_says_what_it_did_not(tmp_path, caplog, which):
    source, tag = trained_source(tmp_path)
    with caplog.at_level(logging.WARNING, "torchbase"):
        session = HeadSession(HEAD, tmp_path, source_run_dir_tag=tag, source_network=which, source_strict=False)
        own, first = HeadSession(HEAD, tmp_path / "own"), weights_of(session)
        session()
    taken = [name for name in first if name.startswith(("layers.0", "layers.1"))]
    if which == "last":
        assert different_values({name: first[name] for name in taken}, {n: weights_of(source)[n] for n in taken}) == []
    rest = [name for name in first if name not in taken]
    assert different_values({n: first[n] for n in rest}, {n: weights_of(own)[n] for n in rest}) == []
    assert json.loads((Path(session.run_dir) / "source.json").read_text()) == {
        "run": tag,
        "network": which,
        "strict": False,
        **find_saved_network(Path(source.run_dir), which)._asdict(),
        "taken": taken,
        "missing": ["last.weight", "last.bias"],
        "left_over": [],
        "other_shape": {
            "layers.3.weight": "(1, 8) in the source, (4, 8) here",
            "layers.3.bias": "(1,) in the source, (4,) here",
        },
    }
    said = [one.getMessage() for one in caplog.records if one.getMessage().startswith("Took ")]
    assert len(said) == 1
    assert f"Took 7 of 11 parameters and buffers from the network of {source.run_dir}: layers.0.weight" in said[0]
    assert "2 missing in the source: last.weight, last.bias; 2 of another shape: layers.3.weight ((1, 8)" in said[0]


def test_what_is_left_over_in_the_source_is_named(tmp_path, caplog):
    _, tag = trained_source(tmp_path, HeadSession, network={"architecture": "Head"})
    with caplog.at_level(logging.WARNING, "torchbase"):
        _ = TinySession(CONFIG, tmp_path, source_run_dir_tag=tag, source_strict=False).network
    assert "2 left over in the source: last.weight, last.bias" in caplog.text


def test_a_network_with_nothing_in_common_is_an_error(tmp_path):
    _, tag = trained_source(tmp_path)

    class Other(TinySession):
        def init_network(self):
            return torch.nn.Linear(3, 1)

    session = Other(
        {**CONFIG, "network": {"architecture": "Linear"}}, tmp_path, source_run_dir_tag=tag, source_strict=False
    )
    with pytest.raises(
        CheckpointError, match=r"no parameter in common with Linear, .* has layers.0.weight, .* weight, bias"
    ):
        _ = session.network


def test_a_network_that_does_not_match_says_how_to_take_what_matches(tmp_path):
    _, tag = trained_source(tmp_path)
    session = HeadSession(HEAD, tmp_path, source_run_dir_tag=tag)
    with pytest.raises(CheckpointError, match="or pass source_strict=False to load what matches"):
        _ = session.network


def take_on_several(index, parent, tag, distributed):
    config = {
        **HEAD,
        "session": {**HEAD["session"], "mini_batch_size": 6, "mini_batch_parts": 2, "distributed": distributed},
    }
    session = HeadSession(config, parent, source_run_dir_tag=tag, source_strict=False)
    session()
    return (Path(session.run_dir) / "source.json").read_text()


@pytest.mark.parametrize("distributed", in_suite(["replicate", "shard"], "replicate"))
def test_several_processes_take_what_matches(tmp_path, distributed):
    if distributed == "shard" and (reason := several.reason_against_sharding()) is not None:
        pytest.skip(reason)
    _, tag = trained_source(tmp_path)
    first, second = several.values_of(2, take_on_several, tmp_path, tag, distributed)
    assert first == second
    assert json.loads(first)["missing"] == ["last.weight", "last.bias"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source_strict": False}, "and no other run was named"),
        ({"source_strict": False, "create_run_dir_afresh": False}, "a resumed run takes nothing"),
        ({"source_strict": "no"}, "source_strict has to be True or False, but got 'no'"),
    ],
)
def test_a_choice_without_a_source_run_is_refused(tmp_path, arguments, message):
    _, tag = trained_source(tmp_path)
    tag = tag if "create_run_dir_afresh" in arguments else None
    with pytest.raises(RunDirectoryError, match=message):
        TinySession(CONFIG, tmp_path, source_run_dir_tag=tag, **arguments)
