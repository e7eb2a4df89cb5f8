"""A metric that the config chooses, computed from the outputs of ``forward_pass``."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeAlias

from torch import Tensor

from torchbase.errors import MetricsError
from torchbase.metrics.directions import Mode, mode_of
from torchbase.metrics.epoch_kinds import (
    FIGURE,
    OVER_SAMPLES,
    EpochState,
    compute_from,
    kind_of,
    make_state_of,
    prepare_of,
    state_key_of,
)
from torchbase.metrics.phases import is_validation_only
from torchbase.metrics.values_at_once import source_of

# The results of methods that compute several values, by function.
Computed: TypeAlias = dict[Callable[..., Any], Any]


@dataclass(frozen=True)
class Metric:
    """A chosen metric.

    Attributes:
        name: The name of the metric.
        class_name: The name of its class.
        functional: The function that computes the metric. It takes keys of ``forward_pass`` as keyword arguments.
        keywords: The keys that the function takes.
        required_keywords: The keys without a default.
    """

    name: str
    class_name: str
    functional: Callable[..., Any]
    keywords: tuple[str, ...]
    required_keywords: tuple[str, ...]

    @property
    def kind(self) -> str:
        """How the value of an epoch is computed; see `torchbase.metrics.epoch_kinds`."""
        return kind_of(self.functional)

    @property
    def mode(self) -> Mode | None:
        """``"max"`` if higher is better, ``"min"`` if lower is better, None if the metric doesn't declare it."""
        return mode_of(self.functional)

    @property
    def is_validation_only(self) -> bool:
        """Whether the metric is computed in validation, and not in training."""
        return is_validation_only(self.functional)

    @property
    def is_over_samples(self) -> bool:
        """Whether the value of an epoch is computed over all samples, which are stored on the host."""
        return self.kind in (OVER_SAMPLES, FIGURE)

    def evaluate(self, outputs: Mapping[str, Any], computed: Computed) -> float:
        """Computes the metric.

        Args:
            outputs: The outputs of ``forward_pass``, of one or several mini-batches.
            computed: What is already computed from these outputs. New results are added.

        Returns:
            The value.

        Raises:
            MetricsError: The metric does not return a number.
            Exception: Any error that the metric raises, with a note that contains the name of the metric.
        """
        return self._value_of(lambda function: self._call(function, outputs), computed)

    def draw(self, outputs: Mapping[str, Any]) -> Any:
        """Draws the figure of the metric.

        Args:
            outputs: The outputs of ``forward_pass`` for all samples.

        Returns:
            A Matplotlib figure.

        Raises:
            Exception: Any error that the metric raises, with a note that contains the name of the metric.
        """
        return self._call(self.functional, outputs)

    def make_state(self) -> EpochState:
        """Creates the state of an epoch, for a metric that is declared with one."""
        return make_state_of(self.functional)

    @property
    def state_key(self) -> object:
        """A key that is equal for metrics that share a state."""
        return state_key_of(self.functional)

    def compute_from(self, state: EpochState, computed: Computed) -> float:
        """Computes the metric from its state.

        Args:
            state: A state from `make_state`, updated with mini-batches.
            computed: What is already computed from the states. New results are added.

        Returns:
            The value.

        Raises:
            MetricsError: The value is not a number.
            Exception: Any error that the state raises, with a note that contains the name of the metric.
        """
        with self._named_in_errors():
            return self._value_of(lambda function: compute_from(function, state), computed)

    def update(self, state: EpochState, outputs: Mapping[str, Any], prepared: dict[object, Any]) -> None:
        """Updates the state with a mini-batch.

        Args:
            state: A state from `make_state`.
            outputs: The outputs of ``forward_pass``.
            prepared: The arguments that are already prepared, by a key that is equal for metrics that share them. New
                ones are added.

        Raises:
            Exception: Any error that the state raises, with a note that contains the name of the metric.
        """
        key_and_function = prepare_of(self.functional)
        if key_and_function is None:
            self._call(state.update, outputs)
            return
        key, prepare = key_and_function
        if key not in prepared:
            prepared[key] = self._call(prepare, outputs)
        with self._named_in_errors():
            state.update(prepared[key])

    def to_number(self, value: object) -> float:
        """Converts the return value of the metric to a float.

        Args:
            value: A number, or a tensor of shape ().

        Returns:
            The number.

        Raises:
            MetricsError: The value is not a number.
        """
        if isinstance(value, Tensor) and value.ndim == 0 and not value.is_complex():
            value = value.item()
        if isinstance(value, Real) and not isinstance(value, bool):
            return float(value)
        raise MetricsError(
            f"The metric {self.name!r} of {self.class_name} has to return a number (a float, an int or a tensor of "
            f"shape ()), but returned {_describe_value(value)}."
        )

    def _value_of(self, compute: Callable[[Callable[..., Any]], Any], computed: Computed) -> float:
        source = source_of(self.functional)
        if source is None:
            return self.to_number(compute(self.functional))
        whole, take = source
        if whole not in computed:
            computed[whole] = compute(whole)
        with self._named_in_errors():
            return self.to_number(take(computed[whole]))

    def _call(self, function: Callable[..., Any], outputs: Mapping[str, Any]) -> Any:
        with self._named_in_errors():
            return function(**{keyword: outputs[keyword] for keyword in self.keywords if keyword in outputs})

    @contextmanager
    def _named_in_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            note = f"in metric {self.name!r} of {self.class_name}"
            if note not in getattr(error, "__notes__", ()):
                error.add_note(note)
            raise


def _describe_value(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}, {value.dtype}"
    return f"{value!r:.80} of type {type(value).__name__}"
