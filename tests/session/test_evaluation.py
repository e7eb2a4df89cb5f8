from pathlib import Path

import pytest
import several
import torch
from divided import in_suite
from tiny import CONFIG, KeepNetworks, TinySession, config_with, make_dataset, read_scalars

from torchbase import BaseMetricsClass, ValidationDatasetsDict, hookimpl
from torchbase.errors import DataError, RunDirectoryError
from torchbase.files.bitwise import different_values


class Errors(BaseMetricsClass):
    def median(self, *, output, target):
        return (output - target).abs().median()


class Measured(TinySession):
    """A session with a median metric and a random transform in a validation set."""

    def init_datasets(self):
        noisy = make_dataset(11, 0.5).with_transform(
            lambda batch: {
                "x": torch.tensor(batch["x"]) + 0.1 * torch.randn(len(batch["x"]), 3),
                "y": torch.tensor(batch["y"]),
            }
        )
        return make_dataset(), ValidationDatasetsDict(
            datasets=(make_dataset(10, 0.1), noisy), only_for_demo=(False, False), names=("valid", "noisy")
        )

    def init_metrics(self):
        return [Errors()]


def configured(**session):
    return {**config_with(**session), "metrics": {"Errors": ["median"]}}


@pytest.mark.parametrize("workers", [0, 2])
def test_an_evaluation_equals_the_curve_at_the_epoch_of_the_network(tmp_path, workers):
    session = Measured(configured(num_epochs=3, dataloader_num_workers=workers), tmp_path)
    session.register(recorder := KeepNetworks())
    summary = session()
    scalars = read_scalars(session.run_dir)
    for name in ("valid", "noisy"):
        assert session.evaluate(session.datasets_valid_dict[name], name) == summary.averages[f"validation-{name}"]
    for epoch, network in recorder.networks.items():
        session.network.load_state_dict(network)
        values = session.evaluate(session.datasets_valid_dict["valid"], "valid")
        for value in ("loss", "median"):
            curve = dict(scalars[f"validation-valid/{value}/epochs"])
            assert curve[epoch] == pytest.approx(values[value], rel=1e-6)


def test_an_evaluation_changes_and_records_nothing(tmp_path):
    whole, session = Measured(configured(num_epochs=2), tmp_path / "a"), Measured(configured(num_epochs=2), tmp_path)

    class EvaluateInBetween:
        @hookimpl
        def on_iteration_end(self, phase):
            if phase.is_training:
                was_training = session.network.training
                session.evaluate(make_dataset(5), "other")
                list(session.predict(make_dataset(5)))
                assert session.network.training is was_training

    session.register(EvaluateInBetween())
    assert session().averages == whole().averages
    assert different_values(whole.network.state_dict(), session.network.state_dict()) == []
    assert read_scalars(session.run_dir) == read_scalars(whole.run_dir)


def test_the_best_network_is_loaded_in_the_session_that_trained_and_in_a_resumed_one(tmp_path):
    session = Measured(configured(num_epochs=4, learning_rate=0.5), tmp_path)
    session.register(recorder := KeepNetworks())
    best = session().best_losses["validation-valid"]
    later = Measured.resume(tmp_path)
    for one in (session, later):
        one.load_best_network()
        saved_best = torch.load(Path(session.run_dir, "network.pth"), weights_only=True)
        assert different_values(dict(one.network.state_dict()), dict(saved_best)) == []
    assert any(different_values(network, dict(saved_best)) == [] for network in recorder.networks.values())
    if different_values(recorder.networks[best.epoch], dict(saved_best)) == []:
        assert later.evaluate(make_dataset(10, 0.1), "valid")["loss"] == pytest.approx(best.loss)


def test_a_missing_best_network_is_an_error(tmp_path):
    with pytest.raises(RunDirectoryError, match=r"network\.pth isn't there: the run has saved no best network yet"):
        Measured(configured(), tmp_path).load_best_network()


def test_only_hooks_that_run_a_part_of_the_iteration_are_called_in_an_evaluation(tmp_path):
    called = []

    class Doubles:
        @hookimpl(wrapper=True)
        def run_forward(self, phase):
            loss = yield
            phase.values["loss"] = 2 * phase.values["loss"]
            return loss

    class Observes:
        @hookimpl
        def on_iteration_end(self, phase):
            called.append(phase.name)

    session = TinySession(CONFIG, tmp_path)
    plain = session.evaluate(make_dataset(10), "valid")
    session.register(Doubles())
    session.register(Observes())
    assert session.evaluate(make_dataset(10), "valid")["loss"] == pytest.approx(2 * plain["loss"])
    assert called == []


def test_values_that_forward_pass_logs_in_an_evaluation_belong_to_it(tmp_path):
    class Logs(TinySession):
        def forward_pass(self, mini_batch):
            outputs = super().forward_pass(mini_batch)
            self.log("largest", outputs["output"].max())
            return outputs

    class EvaluateMeanwhile:
        @hookimpl
        def on_epoch_end(self):
            values.append(session.evaluate(make_dataset(10, 0.1), "valid"))
            list(session.predict(make_dataset(10, 0.1)))

    values = []
    session = Logs(CONFIG, tmp_path)
    session.register(EvaluateMeanwhile())
    averages = session().averages["validation-valid"]
    assert values[-1] == pytest.approx(averages)
    assert "largest" in values[-1]
    scalars = read_scalars(session.run_dir)
    assert [step for step, _ in scalars["training/largest/iterations"]] == list(range(1, 11))
    assert [step for step, _ in scalars["training/largest/epochs"]] == [1, 2]


def test_predictions_have_the_order_of_the_dataset_as_mini_batches_and_as_a_dataset(tmp_path):
    class WithMore(TinySession):
        def forward_pass(self, mini_batch):
            outputs = super().forward_pass(mini_batch)
            return {
                **outputs,
                "pair": torch.stack([outputs["output"], outputs["target"]], dim=1).bfloat16(),
                "name": mini_batch["name"],
                "scale": torch.tensor(2.0),
                "weights": torch.zeros(3, 8),
            }

    session = WithMore(CONFIG, tmp_path)
    dataset = make_dataset(10)
    parts = list(session.predict(dataset))
    assert [len(part["output"]) for part in parts] == [4, 4, 2]
    assert not any(part["output"].requires_grad for part in parts)
    predicted = session.predict_dataset(dataset)
    assert predicted.column_names == ["output", "target", "pair", "name"]
    assert predicted["name"][:] == dataset["name"][:]
    assert torch.equal(torch.tensor(predicted["output"][:]), torch.cat([part["output"] for part in parts]))
    assert torch.tensor(predicted["pair"][:]).shape == (10, 2)
    assert session.predict_dataset(dataset, ["target"]).column_names == ["target"]
    for name, message in (("scale", "doesn't have one value per sample"), ("logits", "is missing")):
        with pytest.raises(DataError, match=message):
            session.predict_dataset(dataset, ["output", name])


class Predicting(TinySession):
    """Returns an additional output: make(samples, is_first)."""

    make = None

    def forward_pass(self, mini_batch):
        outputs = super().forward_pass(mini_batch)
        if self.make is None:
            return outputs
        is_first, self.is_first = self.is_first, False
        return {**outputs, "more": self.make(len(outputs["output"]), is_first)}


def predicting(parent, make=None):
    session = Predicting(CONFIG, parent)
    session.make, session.is_first = make, True
    return session


FLOAT_TYPES = {one for one in vars(torch).values() if isinstance(one, torch.dtype) and one.is_floating_point}
INTEGER_TYPES = {torch.bool, torch.int8, torch.int16, torch.int32, torch.int64} | {
    torch.uint8,
    torch.uint16,
    torch.uint32,
}


@pytest.mark.parametrize("dtype", sorted((FLOAT_TYPES | INTEGER_TYPES) - {torch.float4_e2m1fn_x2}, key=str), ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
def test_predictions_of_any_type_are_a_column(tmp_path, dtype, shape):
    session = predicting(tmp_path, lambda samples, is_first: torch.ones(samples, *shape).to(dtype))
    values = torch.tensor(session.predict_dataset(make_dataset(10))["more"])
    assert values.shape == (10, *shape)
    assert bool((values == 1).all())


def test_sparse_predictions_are_a_column(tmp_path):
    session = predicting(tmp_path, lambda samples, is_first: torch.eye(4)[:samples].to_sparse())
    assert session.predict_dataset(make_dataset(6))["more"][:2] == torch.eye(4)[:2].tolist()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda samples, is_first: torch.ones(samples, dtype=torch.complex64), "'more' .*torch.view_as_real"),
        (lambda samples, is_first: [object()] * samples, "'more' .*can't be a column"),
        (lambda samples, is_first: [2**70] * samples, "'more' .*can't be a column"),
        (lambda samples, is_first: [1 if is_first else "one"] * samples, "'more' .*int64.*, then .*string"),
        (
            lambda samples, is_first: torch.ones(samples).int() if is_first else torch.ones(samples),
            "int32.*, then .*float",
        ),
    ],
)
def test_an_output_that_can_not_be_a_column_is_named(tmp_path, make, message):
    session = predicting(tmp_path, make)
    with pytest.raises(DataError, match=message):
        session.predict_dataset(make_dataset(10))
    assert session.predict_dataset(make_dataset(10), ["output"]).num_rows == 10


def test_a_single_string_of_keys_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"keys has to be a list .*To fix, pass \['output'\]"):
        predicting(tmp_path).predict_dataset(make_dataset(3), "output")


@pytest.mark.parametrize("keys", [None, ["output"]])
def test_an_empty_dataset_has_no_predictions(tmp_path, keys):
    session = predicting(tmp_path)
    empty = make_dataset(3).select([])
    assert list(session.predict(empty)) == []
    with pytest.raises(DataError, match="dataset to predict is empty"):
        session.predict_dataset(empty, keys)


def test_validation_may_have_mini_batches_of_another_size(tmp_path):
    sizes = set()

    class Sizes(TinySession):
        def forward_pass(self, mini_batch):
            sizes.add((self.network.training, len(mini_batch["x"])))
            return super().forward_pass(mini_batch)

    session = Sizes(config_with(validation_mini_batch_size=7), tmp_path)
    summary = session()
    assert sizes == {(True, 4), (True, 2), (False, 7), (False, 3), (False, 6)}
    usual = TinySession(CONFIG, tmp_path)
    assert usual().averages["validation-valid"] == pytest.approx(summary.averages["validation-valid"])
    assert different_values(usual.network.state_dict(), session.network.state_dict()) == []


class InParts(Measured):
    def forward_pass(self, mini_batch):
        outputs = super().forward_pass(mini_batch)
        self.log("mean_output", outputs["output"].mean())
        return {**outputs, "name": mini_batch["name"], "constant": torch.ones(3)}

    def init_datasets(self):
        return make_dataset(16), ValidationDatasetsDict(
            datasets=(make_dataset(7, 0.1),), only_for_demo=(False,), names=("valid",)
        )


class EvaluateWithin:
    def __init__(self, session):
        self.session, self.values = session, []

    @hookimpl
    def on_iteration_end(self, run, phase):
        if phase.is_training and run.progress.iterations == 1:
            self.values.append(self.session.evaluate(make_dataset(5), "five"))
            self.values.append(list(self.session.predict(make_dataset(3))))

    @hookimpl
    def on_best_epoch(self):
        self.values.append(self.session.evaluate(self.session.datasets_valid_dict["valid"], "valid"))


def evaluated(index, parent):
    """What a process gets in and after a training with sets of 1 to 7 rows in mini-batches of 4 parts."""
    session = InParts(configured(mini_batch_size=8, validation_mini_batch_size=4, mini_batch_parts=4), parent)
    session.register(within := EvaluateWithin(session))
    summary = session()
    session.load_best_network()
    values = [within.values, dict(summary.averages["validation-valid"]), session.network.state_dict()]
    for rows in (1, 4, 7):
        dataset = make_dataset(rows, 0.3)
        values.append(session.evaluate(dataset))
        values.append(list(session.predict(dataset)))
        values.append(session.predict_dataset(dataset).to_dict())
        values.append(session.predict_dataset(dataset, ["name"]).to_dict())
        assert values[-1] == {"name": [str(row) for row in range(rows)]}
        assert set(values[-2]) == {"output", "target", "name"} | ({"constant"} if rows == 3 else set())
        stream = dataset.to_iterable_dataset(num_shards=min(rows, 5))
        values.append(session.evaluate(stream))
        values.append(session.predict_dataset(stream).to_dict())
        assert sorted(values[-1]["name"]) == [str(row) for row in range(rows)]
    with pytest.raises(DataError, match=r"'nothing' of forward_pass .* it is missing\. .*'output', 'target'"):
        session.predict_dataset(make_dataset(2), ["nothing"])
    return values


@pytest.mark.parametrize("count", in_suite([2, 4], 2))
def test_several_processes_evaluate_and_predict_as_one(tmp_path, count):
    expected = evaluated(0, tmp_path / "one")
    for index, values in enumerate(several.values_of(count, evaluated, tmp_path / "several")):
        assert different_values(values, expected) == [], f"process {index}"


CALLS = {
    "evaluate": lambda session: session.evaluate(make_dataset(4)),
    "predict": lambda session: list(session.predict(make_dataset(4))),
    "predict_dataset": lambda session: session.predict_dataset(make_dataset(4)),
    "load_best_network": lambda session: session.load_best_network(),
}


def called_alone(index, parent, method, is_ended):
    session = InParts(config_with(mini_batch_size=8), parent)

    class Call:
        @hookimpl
        def on_epoch_end(self):
            if index == 0:
                CALLS[method](session)

    if not is_ended:
        session.register(Call())
    session()
    if index == 0:
        CALLS[method](session)


@pytest.mark.parametrize("is_ended", [False, True])
@pytest.mark.parametrize("method", CALLS)
def test_a_call_on_one_process_only_is_an_error(tmp_path, method, is_ended):
    first, second = several.run(2, called_alone, tmp_path, method, is_ended)
    assert ("ProcessLostError: " if is_ended else "ProcessError: ") in first.error
    assert f"All processes have to call {method}, at the same place of the program" in first.error
    assert (second.error is None) == is_ended


def stopped_early(index, parent):
    session = InParts(config_with(mini_batch_size=8), parent)
    for _ in session.predict(make_dataset(24)):
        if index == 0:
            break
    session.evaluate(make_dataset(4))


def test_a_prediction_that_one_process_leaves_is_an_error(tmp_path):
    for ended in several.run(2, stopped_early, tmp_path):
        assert "process 0 communicates for the comparison of the dataset of evaluate, and process 1 for" in ended.error


def of_other_data(index, parent):
    InParts(config_with(mini_batch_size=8), parent).evaluate(make_dataset(4 + index))


def test_a_dataset_that_differs_between_processes_is_an_error(tmp_path):
    for ended in several.run(2, of_other_data, tmp_path):
        assert "the dataset of evaluate differs between processes" in ended.error
