from pathlib import Path

import pytest
import torch
from tiny import CONFIG, StopAt, TinySession, config_with, make_dataset

from torchbase.checkpoints.storage import newest_whole_checkpoint, write_checkpoint
from torchbase.errors import CheckpointError, ConfigError, RunDirectoryError
from torchbase.files.durable import write_json
from torchbase.hooks.seed_capture import SEEDS_FILE
from torchbase.run_directory.directory import RunDirectory
from torchbase.session.run_source import choose_seed, find_run, saved_config


class BestAtFirst(TinySession):
    """A session whose best network isn't its last: its validation losses only grow."""

    calls = 0

    def get_loss_value(self, *, loss_tensor):
        self.calls += not self.network.training
        return loss_tensor if self.network.training else float(self.calls)


class Wider(TinySession):
    def __init__(self, config, rows, **arguments):
        super().__init__(config, **arguments)
        self.rows = rows

    def init_datasets(self):
        return make_dataset(self.rows), super().init_datasets()[1]


def are_equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def stopped_run(tmp_path, kind=TinySession, iteration=3, **session):
    """Returns the session of a run that was stopped early, and the tag of the run."""
    one = kind(config_with(**session), runs_parent_dir=tmp_path)
    one.register(StopAt(iteration))
    one()
    return one, Path(one.run_dir).name


def content_of(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_a_new_run_starts_from_the_best_network_or_the_last(tmp_path):
    source = BestAtFirst(CONFIG, tmp_path)
    assert source().best_losses["validation-valid"].epoch == 1
    tag, before = Path(source.run_dir).name, content_of(source.run_dir)
    best = torch.load(Path(source.run_dir) / "network.pth", weights_only=True)
    last = newest_whole_checkpoint(Path(source.run_dir) / "states").parts["network"]
    assert not are_equal(best, last)
    loaded = {
        name: TinySession(CONFIG, tmp_path, source_run_dir_tag=tag, **arguments).network.state_dict()
        for name, arguments in {
            "default": {},
            "best": {"source_network": "best"},
            "last": {"source_network": "last"},
        }.items()
    }
    assert are_equal(loaded["default"], best)
    assert are_equal(loaded["best"], best)
    assert are_equal(loaded["last"], last)
    assert content_of(source.run_dir) == before


def test_a_new_run_starts_from_the_last_network_if_there_is_no_best_one(tmp_path):
    source, tag = stopped_run(tmp_path)
    assert not (Path(source.run_dir) / "network.pth").exists()
    session = TinySession(CONFIG, tmp_path, source_run_dir_tag=tag)
    assert are_equal(session.network.state_dict(), source.network.state_dict())


def test_a_run_that_saved_no_network_cannot_be_a_source(tmp_path):
    source = RunDirectory.create(tmp_path)
    for which in ("best", "last"):
        session = TinySession(CONFIG, tmp_path, source_run_dir_tag=source.tag, source_network=which)
        with pytest.raises(CheckpointError, match=f"{source.path} has saved no network"):
            _ = session.network


def test_a_new_run_cannot_start_from_a_damaged_best_network(tmp_path):
    source = TinySession(CONFIG, tmp_path)
    source()
    file = Path(source.run_dir) / "network.pth"
    content, weight = bytearray(file.read_bytes()), torch.load(file, weights_only=True)["layers.3.weight"]
    content[content.index(weight.numpy().tobytes())] ^= 1
    file.write_bytes(content)
    session = TinySession(CONFIG, tmp_path, source_run_dir_tag=Path(source.run_dir).name)
    with pytest.raises(RunDirectoryError, match=r"network\.pth is damaged"):
        _ = session.network


def test_any_other_choice_of_a_network_is_refused(tmp_path):
    with pytest.raises(RunDirectoryError, match="source_network has to be 'best' or 'last', but got 'newest'"):
        TinySession(CONFIG, tmp_path, source_network="newest")
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_found_by_its_tag_and_the_newest_without_a_tag(tmp_path, monkeypatch):
    for day in (1, 2, 3):
        (tmp_path / "runs" / f"2026-11-0{day}").mkdir(parents=True)
        if day < 3:
            write_json(tmp_path / "runs" / f"2026-11-0{day}" / "config.json", CONFIG)
    assert find_run(tmp_path / "runs", "2026-11-03") == tmp_path / "runs" / "2026-11-03"
    assert find_run(tmp_path / "runs", None) == tmp_path / "runs" / "2026-11-02"
    monkeypatch.chdir(tmp_path)
    assert find_run(None, None) == tmp_path / "runs" / "2026-11-02"
    assert find_run("runs", "2026-11-01") == tmp_path / "runs" / "2026-11-01"


@pytest.mark.parametrize("tag", ["2026-11-04", "../runs", ""])
def test_an_unknown_tag_is_an_error(tmp_path, tag):
    write_json(RunDirectory.create(tmp_path).file("config.json"), CONFIG)
    with pytest.raises(RunDirectoryError, match=r"no run directory|isn't the tag of a run"):
        find_run(tmp_path, tag)


def test_a_run_that_ended_before_its_config_was_saved_cannot_be_resumed(tmp_path):
    directory = RunDirectory.create(tmp_path)
    for resume in (lambda: saved_config(directory.path), lambda: TinySession.resume(tmp_path, directory.tag)):
        with pytest.raises(RunDirectoryError, match=rf"{directory.tag} ended before its config was saved"):
            resume()
    with pytest.raises(RunDirectoryError, match="There is no run to resume"):
        TinySession.resume(tmp_path)


def test_the_saved_config_is_the_newest(tmp_path):
    write_json(tmp_path / "config.json", CONFIG)
    assert saved_config(tmp_path) == CONFIG
    write_json(tmp_path / "config_2026-11-01.json", config_with(num_epochs=7))
    assert saved_config(tmp_path) == config_with(num_epochs=7)


@pytest.fixture
def earlier(tmp_path):
    return RunDirectory.open(tmp_path, RunDirectory.create(tmp_path).tag)


def test_a_new_run_uses_the_configured_seed_or_draws_one(tmp_path):
    directory = RunDirectory.create(tmp_path)
    assert choose_seed(0, directory) == 0
    drawn = {choose_seed(None, directory) for _ in range(5)}
    assert len(drawn) == 5
    assert all(0 <= seed < 2**32 for seed in drawn)


def test_a_resumed_run_keeps_its_seed(earlier):
    write_json(earlier.file(SEEDS_FILE), {"seed": 7})
    assert choose_seed(None, earlier) == 7
    assert choose_seed(7, earlier) == 7


@pytest.mark.parametrize("other", [8, 0])
def test_another_seed_is_refused_unless_changes_are_allowed(earlier, other):
    write_json(earlier.file(SEEDS_FILE), {"seed": 7})
    with pytest.raises(ConfigError, match=f"session.seed is {other}, and the run .* was started with 7"):
        choose_seed(other, earlier)
    assert choose_seed(other, earlier, allow_change=True) == other
    assert choose_seed(None, earlier, allow_change=True) == 7


def test_a_run_that_ended_before_its_seed_was_saved_accepts_any(earlier):
    assert choose_seed(8, earlier) == 8
    assert choose_seed(None, earlier) != choose_seed(None, earlier)


def test_a_run_with_results_cannot_be_resumed_without_its_seed(earlier):
    write_checkpoint(earlier.states, 0, 1, {})
    with pytest.raises(RunDirectoryError, match=r"seeds\.json is missing.*To fix, restore it"):
        choose_seed(8, earlier)


def test_a_changed_seed_is_saved(tmp_path):
    _, tag = stopped_run(tmp_path)
    other = TinySession(
        config_with(seed=8), tmp_path, create_run_dir_afresh=False, source_run_dir_tag=tag, allow_config_changes=True
    )
    other()
    assert choose_seed(None, RunDirectory.open(tmp_path, tag)) == 8
    assert TinySession.resume(tmp_path).config_session.seed == 8


def test_the_newest_run_is_resumed_with_its_saved_config(tmp_path):
    whole = TinySession(config_with(learning_rate=0.02), tmp_path / "whole")
    whole()
    stopped_run(tmp_path, learning_rate=0.01)
    newest, _ = stopped_run(tmp_path, learning_rate=0.02)
    resumed = TinySession.resume(tmp_path)
    assert type(resumed) is TinySession
    assert resumed.run_dir == newest.run_dir
    assert resumed.config_session == newest.config_session
    assert resumed().epochs_done == 2
    assert are_equal(resumed.network.state_dict(), whole.network.state_dict())


def test_a_run_is_resumed_by_its_tag(tmp_path, monkeypatch):
    first, tag = stopped_run(tmp_path / "runs", learning_rate=0.01)
    stopped_run(tmp_path / "runs", learning_rate=0.02)
    monkeypatch.chdir(tmp_path)
    resumed = TinySession.resume(tag=tag)
    assert resumed.run_dir == first.run_dir
    assert resumed.config_session.learning_rate == 0.01
    assert resumed().epochs_done == 2


def test_a_changed_config_is_used_from_then_on(tmp_path):
    _, tag = stopped_run(tmp_path)
    longer = TinySession(config_with(num_epochs=3), tmp_path, create_run_dir_afresh=False, source_run_dir_tag=tag)
    longer.register(StopAt(6))
    assert longer().epochs_done == 1
    assert TinySession.resume(tmp_path)().epochs_done == 3


def test_additional_arguments_of_a_subclass_are_passed_on(tmp_path):
    def make(config, runs_parent_dir):
        return Wider(config, 8, runs_parent_dir=runs_parent_dir)

    _, tag = stopped_run(tmp_path, make, iteration=1)
    resumed = Wider.resume(tmp_path, tag, rows=8)
    assert type(resumed) is Wider
    assert resumed().epochs_done == 2
    assert len(resumed.dataset_train) == 8
    with pytest.raises(TypeError, match="rows"):
        Wider.resume(tmp_path)
