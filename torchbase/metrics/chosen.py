"""One metric that the config chose, called with what ``forward_pass`` returned."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from typing import Any

from torch import Tensor

from torchbase.errors import MetricsError
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


@dataclass(frozen=True)
class Metric:
    """A chosen metric.

    Attributes:
        name: Its name.
        class_name: The name of its class.
        functional: Computes it; takes keys of ``forward_pass`` as keyword arguments.
        keywords: These keys.
        required_keywords: Those of them that have no default.
    """

    name: str
    class_name: str
    functional: Callable[..., Any]
    keywords: tuple[str, ...]
    required_keywords: tuple[str, ...]

    @property
    def kind(self) -> str:
        """How its value over an epoch comes about; see `torchbase.metrics.epoch_kinds`."""
        return kind_of(self.functional)

    @property
    def is_over_samples(self) -> bool:
        """Whether it is computed over all samples of an epoch, and so on the host, where these are kept."""
        return self.kind in (OVER_SAMPLES, FIGURE)

    def evaluate(self, outputs: Mapping[str, Any]) -> float:
        """Computes it.

        Args:
            outputs: What ``forward_pass`` returned, of one mini-batch or of many.

        Returns:
            Its value.

        Raises:
            MetricsError: It returned no number.
            Exception: Whatever it raises, with a note that says which metric it was.
        """
        return self.to_number(self._call(self.functional, outputs))

    def draw(self, outputs: Mapping[str, Any]) -> Any:
        """Gives its figure.

        Args:
            outputs: What ``forward_pass`` returned, of all samples.

        Returns:
            A figure of matplotlib.

        Raises:
            Exception: Whatever it raises, with a note that says which metric it was.
        """
        return self._call(self.functional, outputs)

    def make_state(self) -> EpochState:
        """Makes the state of an epoch for a metric that was declared to have one."""
        return make_state_of(self.functional)

    @property
    def state_key(self) -> object:
        """What is equal for metrics that share a state."""
        return state_key_of(self.functional)

    def compute_from(self, state: EpochState) -> float:
        """Computes it from its state.

        Args:
            state: What `make_state` gave, after some mini-batches.

        Returns:
            Its value.

        Raises:
            MetricsError: It gave no number.
            Exception: Whatever the state raises, with a note that says which metric it was.
        """
        with self._named():
            return self.to_number(compute_from(self.functional, state))

    def update(self, state: EpochState, outputs: Mapping[str, Any], prepared: dict[object, Any]) -> None:
        """Gives the state a mini-batch.

        Args:
            state: What `make_state` gave.
            outputs: What ``forward_pass`` returned.
            prepared: What was prepared of it already, by what is equal for metrics that share it; it is added to.

        Raises:
            Exception: Whatever the state raises, with a note that says which metric it was.
        """
        preparing = prepare_of(self.functional)
        if preparing is None:
            self._call(state.update, outputs)
            return
        key, prepare = preparing
        if key not in prepared:
            prepared[key] = self._call(prepare, outputs)
        with self._named():
            state.update(prepared[key])

    def to_number(self, value: object) -> float:
        """Gives what the metric returned as a float.

        Args:
            value: A number, or a tensor of shape ().

        Returns:
            The number.

        Raises:
            MetricsError: It is none.
        """
        if isinstance(value, Tensor) and value.ndim == 0 and not value.is_complex():
            value = value.item()
        if isinstance(value, Real) and not isinstance(value, bool):
            return float(value)
        raise MetricsError(
            f"Metric {self.name!r} of {self.class_name} has to return a number (a float, an int or a tensor of shape "
            f"()), but returned {_describe_value(value)}."
        )

    def _call(self, function: Callable[..., Any], outputs: Mapping[str, Any]) -> Any:
        with self._named():
            return function(**{keyword: outputs[keyword] for keyword in self.keywords if keyword in outputs})

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            error.add_note(f"in metric {self.name!r} of {self.class_name}")
            raise


def _describe_value(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}, {value.dtype}"
    return f"{value!r:.80} of type {type(value).__name__}"
