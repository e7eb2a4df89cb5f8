"""How the value of an epoch comes about from its mini-batches: what a metric declares above its method.

Without a declaration a metric is computed over all samples of the epoch at once, which is right for every metric, and
keeps what it asks for on the host until then.
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
    """What a metric keeps of the mini-batches of an epoch, where that is less than all of their samples.

    Its attributes, numbers and tensors, are kept in checkpoints.
    """

    @abstractmethod
    def update(self, *arguments: Any, **outputs: Any) -> None:
        """Adds the values of a mini-batch.

        Args:
            *arguments: What ``prepare`` returned, for a metric that is declared with it; else nothing.
            **outputs: Without ``prepare``, the values by the names of the metric's arguments.
        """

    def merge(self, other: Self) -> bool:
        """Takes all that another state of the same metric took.

        Without it a mini-batch whose own value is logged is given to two states; with it to one.

        Args:
            other: The state; it is not used afterwards.

        Returns:
            Whether it was taken.
        """
        return False

    @abstractmethod
    def compute(self) -> float:
        """Gives the value over all that was taken."""

    def state_dict(self) -> dict[str, Any]:
        """Gives the attributes."""
        return dict(vars(self))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the attributes.

        Args:
            state: What `state_dict` returned.
        """
        vars(self).update(state)


def mean_over_samples(method: Method) -> Method:
    """Declares that a metric is a mean over samples: an epoch has the mean of its mini-batches, weighted by size.

    Args:
        method: The metric.

    Returns:
        The same.
    """
    setattr(method, _KIND, MEAN)
    return method


def accumulated(
    make_state: Callable[[Any], EpochState],
    compute: Callable[[Any], float] | None = None,
    prepare: Callable[..., Any] | None = None,
) -> Callable[[Method], Method]:
    """Declares that a metric has a state of its own over an epoch, as sums, which is smaller than all samples.

    Metrics of a class that are declared with the same ``make_state`` share one state, which takes each mini-batch once.
    States that are declared with the same ``prepare`` share what that makes of a mini-batch.

    Args:
        make_state: Makes the state at the start of an epoch; gets the instance of the metrics class.
        compute: Gives the metric's value from the state; without it, the state's own ``compute``.
        prepare: Checks and prepares the metric's arguments, which come by keyword, for the state's ``update``.

    Returns:
        The decorator of the method, which gives the value of a single mini-batch.
    """

    def declare(method: Method) -> Method:
        setattr(method, _KIND, ACCUMULATED)
        setattr(method, _MAKE_STATE, make_state)
        setattr(method, _COMPUTE, compute)
        setattr(method, _PREPARE, prepare)
        return method

    return declare


def figure_over_samples(method: Method) -> Method:
    """Declares that a metric returns a figure of matplotlib over all samples of an epoch, and no number.

    Args:
        method: The metric.

    Returns:
        The same.
    """
    setattr(method, _KIND, FIGURE)
    return method


def declare_as(
    method: Callable[..., Any], functional: Callable[..., Any], argument_of_key: Mapping[str, str]
) -> Callable[..., Any]:
    """Gives a function that calls a metric under other keywords the declaration of the metric.

    Args:
        method: The metric, bound to its instance.
        functional: The function.
        argument_of_key: From the keywords of the function to the metric's own.

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
    """Tells what was declared of a metric."""
    kind: str = getattr(function, _KIND, OVER_SAMPLES)
    return kind


def make_state_of(function: Callable[..., Any]) -> EpochState:
    """Makes the state of an epoch for a function of a metric that was declared to have one."""
    state: EpochState = getattr(function, _MAKE_STATE)()
    return state


def state_key_of(function: Callable[..., Any]) -> object:
    """Gives what is equal for functions of metrics that share a state."""
    key: object = getattr(function, _STATE_KEY)
    return key


def prepare_of(function: Callable[..., Any]) -> tuple[object, Callable[..., Any]] | None:
    """Gives what prepares a mini-batch for the state of a metric.

    Args:
        function: The function of the metric.

    Returns:
        What is equal for metrics that share what is prepared, and the function that prepares it; None for none.
    """
    prepare = getattr(function, _PREPARE, None)
    return None if prepare is None else (getattr(function, _PREPARE_KEY), prepare)


def compute_from(function: Callable[..., Any], state: EpochState) -> Any:
    """Computes a metric that was declared to have a state.

    Args:
        function: The function of the metric.
        state: What `make_state_of` gave for it, or for one with the same key.

    Returns:
        The value.
    """
    compute: Callable[[Any], float] | None = getattr(function, _COMPUTE)
    return state.compute() if compute is None else compute(state.state if isinstance(state, _Renamed) else state)


class _Renamed(EpochState):
    """A state that is given mini-batches under the keys of ``forward_pass``."""

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
