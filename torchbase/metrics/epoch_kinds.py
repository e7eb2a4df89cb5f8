"""Decorators that declare how a metric computes the value of an epoch from its mini-batches.

A metric without a decorator is computed over all samples of the epoch at once. That is correct for every metric, but
its arguments are stored on the host until the end of the epoch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar

Method = TypeVar("Method", bound=Callable[..., Any])

_KIND = "torchbase_epoch_kind"
_MAKE_STATE = "torchbase_make_state"
_COMPUTE = "torchbase_compute"
_STATE_KEY = "torchbase_state_key"
_PREPARE = "torchbase_prepare"
_PREPARE_KEY = "torchbase_prepare_key"
OVER_SAMPLES, MEAN, ACCUMULATED, FIGURE = "over samples", "mean", "accumulated", "figure"


class EpochState(ABC):
    """The state of a metric over an epoch, such as sums or counts. It is smaller than all samples of the epoch.

    Its attributes are numbers and tensors. Checkpoints save them.
    """

    @abstractmethod
    def update(self, *arguments: Any, **outputs: Any) -> None:
        """Updates the state with a mini-batch.

        Args:
            *arguments: The return value of ``prepare``, if the metric is declared with it.
            **outputs: The arguments of the metric by name, if it is declared without ``prepare``.
        """

    def merge(self, other: Self) -> bool:
        """Adds another state of the same metric to this state.

        With this method, a mini-batch whose own value is logged updates one state; without it, two states.

        Args:
            other: The other state. It is not used afterwards.

        Returns:
            Whether the state was merged. The default implementation returns False.
        """
        return False

    @abstractmethod
    def compute(self) -> float:
        """Returns the value over all mini-batches."""

    def state_dict(self) -> dict[str, Any]:
        """Returns the attributes."""
        return dict(vars(self))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the attributes.

        Args:
            state: The return value of `state_dict`.
        """
        vars(self).update(state)


def mean_over_samples(method: Method) -> Method:
    """Declares that a metric is a mean over samples.

    The value of an epoch is then the mean over its mini-batches, weighted by their sizes.

    Args:
        method: The metric.

    Returns:
        The same method.
    """
    setattr(method, _KIND, MEAN)
    return method


def accumulated(
    make_state: Callable[[Any], EpochState],
    compute: Callable[[Any], float] | None = None,
    prepare: Callable[..., Any] | None = None,
) -> Callable[[Method], Method]:
    """Declares that a metric accumulates a state over an epoch, such as sums or counts.

    Metrics of a class with the same ``make_state`` share one state, which is updated once per mini-batch. Metrics with
    the same ``prepare`` share its return value for a mini-batch.

    Args:
        make_state: Creates the state at the start of an epoch. It is called with the instance of the metrics class.
        compute: Computes the value of the metric from the state. None calls ``compute`` of the state.
        prepare: Checks and prepares the arguments of the metric for ``update`` of the state. It is called with them as
            keyword arguments.

    Returns:
        The decorator of the method. The method itself returns the value of a single mini-batch.
    """

    def declare(method: Method) -> Method:
        setattr(method, _KIND, ACCUMULATED)
        setattr(method, _MAKE_STATE, make_state)
        setattr(method, _COMPUTE, compute)
        setattr(method, _PREPARE, prepare)
        return method

    return declare


def figure_over_samples(method: Method) -> Method:
    """Declares that a metric returns a Matplotlib figure over all samples of an epoch instead of a number.

    Args:
        method: The metric.

    Returns:
        The same method.
    """
    setattr(method, _KIND, FIGURE)
    return method


def copy_declaration(
    method: Callable[..., Any], functional: Callable[..., Any], argument_of_key: Mapping[str, str]
) -> Callable[..., Any]:
    """Copies the declaration of a metric to a function that calls it with other keywords.

    Args:
        method: The metric, bound to its instance.
        functional: The function.
        argument_of_key: Maps keywords of the function to arguments of the metric.

    Returns:
        The function.
    """
    setattr(functional, _KIND, kind_of(method))
    make_state = getattr(method, _MAKE_STATE, None)
    if make_state is not None:
        instance = getattr(method, "__self__", None)
        setattr(functional, _MAKE_STATE, lambda: _Renamed(make_state(instance), argument_of_key))
        setattr(functional, _COMPUTE, getattr(method, _COMPUTE, None))
        setattr(functional, _STATE_KEY, (id(instance), make_state))
        prepare = getattr(method, _PREPARE, None)
        if prepare is not None:
            setattr(functional, _PREPARE, lambda **outputs: prepare(**_renamed(outputs, argument_of_key)))
            setattr(functional, _PREPARE_KEY, (prepare, tuple(argument_of_key.items())))
    return functional


def kind_of(function: Callable[..., Any]) -> str:
    """Returns the declared kind of a metric."""
    kind: str = getattr(function, _KIND, OVER_SAMPLES)
    return kind


def make_state_of(function: Callable[..., Any]) -> EpochState:
    """Creates the state of an epoch, for the function of a metric that is declared with one."""
    state: EpochState = getattr(function, _MAKE_STATE)()
    return state


def state_key_of(function: Callable[..., Any]) -> object:
    """Returns a key that is equal for functions of metrics that share a state."""
    key: object = getattr(function, _STATE_KEY)
    return key


def prepare_of(function: Callable[..., Any]) -> tuple[object, Callable[..., Any]] | None:
    """Returns the function that prepares a mini-batch for the state of a metric.

    Args:
        function: The function of the metric.

    Returns:
        A key that is equal for metrics that share the prepared arguments, and the function that prepares them. None if
        the metric is declared without one.
    """
    prepare = getattr(function, _PREPARE, None)
    return None if prepare is None else (getattr(function, _PREPARE_KEY), prepare)


def compute_from(function: Callable[..., Any], state: EpochState) -> Any:
    """Computes a metric from its state.

    Args:
        function: The function of the metric.
        state: The state from `make_state_of` for this function, or for a function with the same key.

    Returns:
        The value.
    """
    compute: Callable[[Any], float] | None = getattr(function, _COMPUTE)
    return state.compute() if compute is None else compute(state.state if isinstance(state, _Renamed) else state)


class _Renamed(EpochState):
    """A wrapper of a state that renames keys of ``forward_pass`` to arguments of the metric."""

    def __init__(self, state: EpochState, argument_of_key: Mapping[str, str]) -> None:
        self.state, self._argument_of_key = state, argument_of_key

    def update(self, *arguments: Any, **outputs: Any) -> None:
        self.state.update(*arguments, **_renamed(outputs, self._argument_of_key))

    def merge(self, other: Self) -> bool:
        return self.state.merge(other.state)

    def compute(self) -> float:
        return self.state.compute()

    def state_dict(self) -> dict[str, Any]:
        return self.state.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.state.load_state_dict(state)


def _renamed(outputs: Mapping[str, Any], argument_of_key: Mapping[str, str]) -> dict[str, Any]:
    return {argument_of_key[key]: value for key, value in outputs.items()}
