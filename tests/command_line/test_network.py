import pytest
import torch
from made_up import make_run

from torchbase.engine.named_optimizers import NamedOptimizers
from torchbase.hooks.network_summary import record_network
from torchbase.run_directory.network_record import write_network


class Block(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Linear(8, 8), torch.nn.BatchNorm1d(8))
        self[0].bias.requires_grad_(False)


class Deep(torch.nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.encoder = torch.nn.Sequential(*(Block() for _ in range(blocks)))
        self.a_head_with_a_name_that_is_far_too_long_for_a_table = torch.nn.Linear(8, 1, bias=False)
        self.decoder = torch.nn.Linear(8, 8, bias=False)
        self.decoder.weight = self.encoder[0][0].weight


@pytest.fixture
def show(command, tmp_path, monkeypatch):
    def run(network, *words, optimizer=None):
        folder = tmp_path / "run" if (tmp_path / "run").exists() else make_run(tmp_path, "run")
        write_network(folder, record_network(network, optimizer))
        status, out, err = command("show", folder, *words)
        assert (status, err) == (0, "")
        (section,) = [part.splitlines() for part in out.split("\n\n") if part.startswith("network")]
        return section

    monkeypatch.setenv("COLUMNS", "80")
    return run


def test_the_outer_modules_are_a_table_of_at_most_80_columns(show):
    assert show(Deep(2)) == [
        "network",
        "  184 parameters (168 trainable) in 10 modules, 880 B",
        "  module                      type         parameters  trainable   size",
        "  network                     Deep                184        168  880 B",
        "    encoder                   Sequential          176        160  848 B",
        "      0                       Block                88         80  424 B",
        "        0                     Linear               72         64  288 B",
        "        1                     BatchNorm1d          16         16  136 B",
        "      1                       Block                88         80  424 B",
        "        0                     Linear               72         64  288 B",
        "        1                     BatchNorm1d          16         16  136 B",
        "    a_head_with_a_name_that…  Linear                8          8   32 B",
        "    decoder                   Linear               64         64  256 B",
    ]


@pytest.mark.parametrize("network", [Deep(300), torch.nn.Sequential(*(torch.nn.Identity() for _ in range(1000)))])
def test_of_a_thousand_modules_the_outer_ones_are_shown_and_how_to_see_all(show, network):
    lines = show(network)
    assert len(lines) <= 3 + 16 + 1
    number = len(list(network.modules()))
    assert lines[-1] == f"  … {number - (len(lines) - 4):,} more modules: torchbase show RUN --network"
    assert max(map(len, lines)) <= 80


def test_all_modules_are_listed_on_request(show):
    network = Deep(12)
    assert "more modules" in show(network)[-1]
    whole = show(network, "--network")
    assert max(map(len, whole)) <= 80
    assert sum("Linear" in line for line in whole) == sum(isinstance(one, torch.nn.Linear) for one in network.modules())
    assert "more modules" not in whole[-1]


def test_all_modules_have_the_shapes_of_their_parameters_and_buffers(show, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    network = Deep(1)
    del network.a_head_with_a_name_that_is_far_too_long_for_a_table
    lines = show(network, "--network")
    assert [line.split() for line in lines[5:]] == [
        ["0", "Block", "88", "80", "424", "B"],
        ["0", "Linear", "72", "64", "288", "B"],
        ["weight", "(8,", "8)", "float32", "64", "64"],
        ["bias", "(8,)", "float32", "8", "0"],
        ["1", "BatchNorm1d", "16", "16", "136", "B"],
        ["weight", "(8,)", "float32", "8", "8"],
        ["bias", "(8,)", "float32", "8", "8"],
        ["running_mean", "(8,)", "float32", "buffer"],
        ["running_var", "(8,)", "float32", "buffer"],
        ["num_batches_tracked", "()", "int64", "buffer"],
        ["decoder", "Linear", "64", "64", "256", "B"],
        ["weight", "is", "encoder.0.0.weight"],
    ]


def test_each_of_several_optimizers_is_listed(show):
    network = torch.nn.ModuleDict({"generator": torch.nn.Linear(2000, 1000), "critic": torch.nn.Linear(3, 1)})
    optimizers = NamedOptimizers({name: torch.optim.SGD(network[name].parameters(), lr=0.1) for name in network})
    lines = show(network, optimizer=optimizers)
    assert lines[1:3] == ["  2.001M parameters in 3 modules, 7.6 MiB", "  optimizers: generator 2.001M, critic 4"]


class ATypeWithANameThatIsFarTooLongForATableOfEightyColumns(torch.nn.Linear):
    pass


def test_long_names_of_modules_and_types_are_cropped(show):
    network = torch.nn.ModuleDict({"n" * 60: ATypeWithANameThatIsFarTooLongForATableOfEightyColumns(1000, 1000)})
    lines = show(network)
    assert lines[-1].split()[2:] == ["1.001M", "1.001M", "3.8", "MiB"]
    assert lines[-1].count("…") == 2
    assert len(lines) == 5
    assert max(map(len, lines)) <= 80


def test_a_run_without_a_record_has_no_such_section_and_a_damaged_one_is_named(command, tmp_path):
    folder = make_run(tmp_path, "run")
    assert "\nnetwork\n" not in command("show", folder)[1]
    (folder / "network.json").write_text("[")
    status, out, _ = command("show", folder)
    assert status == 1
    assert "network.json is damaged" in out
