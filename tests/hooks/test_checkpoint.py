import logging
import math
from pathlib import Path

import pytest
import torch
from tiny import CONFIG, StopAt, TinyNetwork, TinySession, config_with

from torchbase import hookimpl
from torchbase.checkpoints.finite import check_is_finite
from torchbase.checkpoints.listing import list_checkpoints
from torchbase.checkpoints.storage import read_checkpoint
from torchbase.errors import CheckpointError, IntervalError, NonFiniteError
from torchbase.files.bitwise import different_values
from torchbase.hooks import Checkpoint

# torch says of some types and layouts that they are new or will be removed.
pytestmark = pytest.mark.filterwarnings("ignore:.*(ComplexHalf|BComplex32|quantized tensor|Sparse CS)")


def checkpoints_of(session):
    return [path.name for path in list_checkpoints(Path(session.run_dir) / "states")]


class Collect:
    """Records the names of the checkpoints before each training iteration."""

    def __init__(self, session):
        self.session, self.names = session, {}

    @hookimpl
    def on_iteration_start(self, run, phase):
        if phase.is_training:
            run.run_directory.writes.wait()
            self.names[phase.progress.iterations] = checkpoints_of(self.session)


def test_the_last_two_checkpoints_are_kept(tmp_path):
    session = TinySession(config_with(num_epochs=4), tmp_path)
    session()
    assert checkpoints_of(session) == [
        "checkpoint-epoch-000004-iteration-0000000020",
        "checkpoint-epoch-000003-iteration-0000000015",
    ]


def test_checkpoints_are_saved_every_n_iterations_of_the_run(tmp_path):
    session = TinySession(config_with(checkpoint_every_n_iterations=3), tmp_path)
    collect = Collect(session)
    session.register(collect)
    session()
    newest = {iterations: names[0][-2:] for iterations, names in collect.names.items() if names}
    assert newest == {3: "03", 4: "03", 5: "05", 6: "06", 7: "06", 8: "06", 9: "09"}


def test_checkpoints_are_saved_after_an_interval_in_seconds(tmp_path):
    session = TinySession(config_with(checkpoint_every_seconds=1e-6, num_epochs=1), tmp_path)
    collect = Collect(session)
    session.register(collect)
    session()
    assert {iterations: len(names) for iterations, names in collect.names.items()} == {0: 0, 1: 1, 2: 2, 3: 2, 4: 2}


@pytest.mark.parametrize(
    ("every", "iterations"), [("2ep", [20, 25]), (["2ep", "7it"], [21, 25]), ("100it", [25]), ([], [25])]
)
def test_checkpoints_are_saved_at_the_intervals_and_at_the_end(tmp_path, every, iterations):
    session = TinySession(config_with(num_epochs=5), tmp_path)
    session.unregister("checkpoint")
    session.register(Checkpoint(every))
    session()
    assert [int(name[-10:]) for name in reversed(checkpoints_of(session))] == iterations


def test_an_invalid_interval_raises():
    with pytest.raises(IntervalError, match="such as '100it'"):
        Checkpoint(["1ep", "often"])


def test_the_state_of_any_hook_is_restored_before_its_on_run_start(tmp_path):
    class Counter:
        def __init__(self):
            self.count, self.initial_count = torch.zeros(1), None

        @hookimpl
        def on_run_start(self):
            self.initial_count = self.count.item()

        @hookimpl
        def on_epoch_end(self):
            self.count += 1

        def state_dict(self):
            return {"count": self.count}

        def load_state_dict(self, state):
            self.count = state["count"]

    first = TinySession(CONFIG, tmp_path)
    first.register(Counter())
    first()
    resumed = TinySession(
        config_with(num_epochs=3), tmp_path, create_run_dir_afresh=False, source_run_dir_tag=Path(first.run_dir).name
    )
    resumed.register(Counter())
    resumed()
    assert resumed.hooks["counter"].initial_count == 2
    assert resumed.hooks["counter"].count.item() == 3


def test_a_saved_state_without_its_hook_causes_a_warning(tmp_path, caplog):
    class Stateful:
        @hookimpl
        def on_run_end(self):
            pass

        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            pass

    first = TinySession(CONFIG, tmp_path)
    first.register(Stateful(), "my_hook")
    first()
    resumed = TinySession(CONFIG, tmp_path, create_run_dir_afresh=False, source_run_dir_tag=Path(first.run_dir).name)
    with caplog.at_level(logging.WARNING, "torchbase"):
        resumed()
    assert "has a state of the hook 'my_hook', which isn't registered" in caplog.text


def test_a_run_resumes_from_the_checkpoint_before_a_damaged_checkpoint(tmp_path, caplog):
    whole = TinySession(config_with(num_epochs=3), tmp_path)
    whole()
    first = TinySession(CONFIG, tmp_path)
    first()
    newest = list_checkpoints(Path(first.run_dir) / "states")[0]
    content = bytearray((newest / "network.pth").read_bytes())
    content[len(content) // 2] ^= 1
    (newest / "network.pth").write_bytes(content)
    resumed = TinySession(
        config_with(num_epochs=3), tmp_path, create_run_dir_afresh=False, source_run_dir_tag=Path(first.run_dir).name
    )
    with caplog.at_level(logging.INFO, "torchbase"):
        resumed()
    assert "network.pth" in caplog.text
    assert "Resumed from checkpoint-epoch-000001-iteration-0000000005: 1 epochs are done" in caplog.text
    for name, value in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], value)


def test_without_a_complete_checkpoint_resuming_raises_and_changes_nothing(tmp_path):
    first = TinySession(CONFIG, tmp_path)
    first()
    for path in list_checkpoints(Path(first.run_dir) / "states"):
        (path / "training.pth").write_bytes(b"")
    before = {path: path.read_bytes() for path in Path(first.run_dir).rglob("*") if path.is_file()}
    resumed = TinySession(CONFIG, tmp_path, create_run_dir_afresh=False, source_run_dir_tag=Path(first.run_dir).name)
    with pytest.raises(CheckpointError, match=r"training\.pth"):
        resumed()
    assert before == {path: path.read_bytes() for path in Path(first.run_dir).rglob("*") if path.is_file()}


def test_a_checkpoint_has_the_documented_parts(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    session()
    saved = read_checkpoint(list_checkpoints(Path(session.run_dir) / "states")[0])
    assert saved.parts.keys() == {"network", "training"}
    assert saved.parts["training"].keys() == {"optimizer", "run", "hooks"}
    assert saved.parts["training"]["run"]["phases"]["training"]["progress"]["iterations"] == 10
    assert "metric_averages" in saved.parts["training"]["hooks"]


def test_without_the_hook_only_the_best_network_is_saved(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    assert isinstance(session.unregister("checkpoint"), Checkpoint)
    session()
    assert checkpoints_of(session) == []
    assert (Path(session.run_dir) / "network.pth").exists()


def test_the_end_of_an_epoch_is_saved_in_addition_to_its_last_iteration(tmp_path):
    session = TinySession(config_with(checkpoint_every_n_iterations=5, num_epochs=1), tmp_path)
    session()
    assert checkpoints_of(session) == [
        "checkpoint-epoch-000001-iteration-0000000005",
        "checkpoint-epoch-000000-iteration-0000000005",
    ]
    resumed = TinySession(
        config_with(checkpoint_every_n_iterations=5, num_epochs=1),
        tmp_path,
        create_run_dir_afresh=False,
        source_run_dir_tag=Path(session.run_dir).name,
    )
    resumed.register(collect := Collect(resumed))
    assert resumed().epochs_done == 1
    assert collect.names == {}


DTYPES = sorted({one for one in vars(torch).values() if isinstance(one, torch.dtype)}, key=str)
FLOATING = [one for one in DTYPES if one.is_floating_point and one != torch.float4_e2m1fn_x2]  # which has no NaN
COMPLEX = [one for one in DTYPES if one.is_complex]
SHAPES = [(), (1,), (1, 1), (2, 3)]
WRONG = [math.nan, math.inf, -math.inf]


def largest(dtype):
    """Finite values as far from 0 as possible."""
    if dtype.is_complex:
        return complex(torch.finfo(dtype).max, torch.finfo(dtype).max)
    return torch.finfo(dtype).max if dtype.is_floating_point else torch.iinfo(dtype).max


def filled(shape, dtype, value):
    wide = torch.complex128 if dtype.is_complex else torch.float64 if dtype.is_floating_point else dtype
    return torch.full(shape, value, dtype=wide).to(dtype)


def others():
    return {
        "empty": torch.empty(0, 3),
        "counter": filled((2,), torch.int64, largest(torch.int64)),
        "float64": filled((2,), torch.float64, largest(torch.float64)),
        "complex64": filled((2,), torch.complex64, largest(torch.complex64)),
        "float8": filled((2,), torch.float8_e4m3fn, largest(torch.float8_e4m3fn)),
    }


@pytest.mark.parametrize("shape", [*SHAPES, (0,), (3, 0)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_parameters_of_any_type_and_shape_are_finite(dtype, shape):
    kinds = (torch.float32, *FLOATING, *COMPLEX, torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)
    weight = filled(shape, dtype, largest(dtype)) if dtype in kinds else torch.empty(shape, dtype=dtype)
    check_is_finite({**others(), "weight": weight})


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("dtype", [*FLOATING, *COMPLEX], ids=str)
def test_the_error_names_a_parameter_that_is_not_finite(dtype, wrong, shape):
    weight = filled(shape, dtype, 1)
    wrong_value = filled((1,), dtype, complex(1, wrong) if dtype.is_complex else wrong)
    if math.isinf(wrong) and wrong_value.to(torch.complex128 if dtype.is_complex else torch.float64).isfinite():
        pytest.skip("this type has no infinity")
    weight.view(-1)[-1:] = wrong_value
    with pytest.raises(NonFiniteError, match="'weight' of the network contains NaN or infinity"):
        check_is_finite({**others(), "weight": weight})
    with pytest.raises(NonFiniteError, match="'weight' of the network contains NaN or infinity"):
        check_is_finite({"weight": weight})


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc])
def test_sparse_parameters_are_checked(layout):
    dense = torch.eye(3)
    check_is_finite({"weight": dense.to_sparse(layout=layout)})
    dense[1, 1] = math.nan
    with pytest.raises(NonFiniteError, match="'weight'"):
        check_is_finite({"weight": dense.to_sparse(layout=layout)})


class ManyTypes(TinyNetwork):
    """A network with parameters of every type and shape, of which those that can be trained are."""

    def __init__(self):
        super().__init__(0.3)
        kinds = [*FLOATING, *COMPLEX, torch.int8, torch.uint16, torch.int64, torch.bool]
        tensors = [filled(shape, dtype, 1) for dtype in kinds for shape in [*SHAPES, (0, 2)]]
        self.others = torch.nn.ParameterList(
            torch.nn.Parameter(one, requires_grad=one.dtype in (torch.float64, torch.complex64)) for one in tensors
        )

    def forward(self, x):
        trained = [one.real.sum() for one in self.others if one.requires_grad]
        return super().forward(x) + 0.1 * sum(trained).float()


class ManyTypesSession(TinySession):
    def init_network(self):
        return ManyTypes()

    def init_optimizer(self):
        return torch.optim.SGD(self.network.parameters(), lr=0.01)


def test_a_network_with_parameters_of_all_types_resumes_exactly(tmp_path):
    config = {**config_with(num_epochs=1), "network": {"architecture": "ManyTypes"}}
    whole = ManyTypesSession(config, tmp_path / "whole")
    whole()
    stopped = ManyTypesSession(config, tmp_path / "stopped")
    stopped.register(StopAt(3))
    stopped()
    resumed = ManyTypesSession.resume(tmp_path / "stopped")
    resumed()
    assert different_values(whole.network.state_dict(), resumed.network.state_dict()) == []
    best = [torch.load(Path(one.run_dir, "network.pth"), weights_only=True) for one in (whole, resumed)]
    assert different_values(*best) == []


def test_a_network_without_parameters_is_finite():
    check_is_finite({})
