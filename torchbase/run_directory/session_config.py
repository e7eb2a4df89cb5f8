"""The section ``session`` of a config: its keys, with their types, defaults and meanings."""

import signal
import sys
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from torchbase.intervals import Interval
from torchbase.run_directory.devices import parse_device

_COUNT = "a whole number of at least 1"


class SessionConfig(BaseModel):
    """How a run trains: the section ``session`` of its config, with the defaults filled in.

    Types are strict: ``"10"``, ``10.0`` and ``True`` are not whole numbers. An int is accepted for a float. The
    documentation's page about the config lists the keys. Its table is generated from the fields of this class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    # The documentation lists each field: its title as the expected value, its description as
    # the meaning. Errors show the title.
    device_name: str = Field(
        title="'auto' or a name that torch.device knows, such as 'cpu', 'cuda:1' or 'mps'",
        description='The device that trains the network. `"auto"` is the current accelerator of torch, or the CPU on a '
        "machine without one. Any other name must be that of a device of this machine.",
    )
    num_epochs: int | None = Field(
        default=None,
        ge=1,
        title=_COUNT,
        description="Epochs of the run: passes over the training set, or `iterations_per_epoch`. In a resumed run, the "
        "epochs before it count. Required without `num_iterations`.",
    )
    mini_batch_size: int = Field(
        ge=1,
        title=_COUNT,
        description="Samples per mini-batch, in training and validation. The last mini-batch of an epoch holds the "
        "remaining samples.",
    )
    learning_rate: float = Field(
        gt=0,
        title="a number greater than 0",
        description="Step size of the default optimizer, Adam. A custom `init_optimizer` may read it.",
    )
    num_iterations: int | None = Field(
        default=None,
        ge=1,
        title=f"{_COUNT}, or None",
        description="Training iterations of the run. In a resumed run, those before it count. The run ends after "
        "exactly this number. If that is within an epoch, it validates there and votes on the best network. With "
        "`num_epochs`, it ends at whichever comes first.",
    )
    validation_mini_batch_size: int | None = Field(
        default=None,
        ge=1,
        title=f"{_COUNT}, or None",
        description="Samples per mini-batch of a validation set; None means `mini_batch_size`. Validation computes no "
        "gradients, so larger mini-batches fit into memory.",
    )
    drop_last: bool = Field(
        default=False,
        title="True or False",
        description="Whether to leave out the last mini-batch of a training epoch if it has fewer samples than the "
        "others. Its samples differ from epoch to epoch. For a stream, it is an error.",
    )
    weight_decay: float = Field(
        default=0.0, ge=0, title="a number of at least 0", description="Weight decay of the default optimizer."
    )
    mini_batch_parts: int | None = Field(
        default=None,
        ge=1,
        title=f"{_COUNT}, or None",
        description="Parts in which each mini-batch is computed before the optimizer steps, one after the other or "
        "by several processes. The bits of the result don't depend on the number of processes, which is at most that "
        "of parts. None for one part per process.",
    )
    distributed: Literal["replicate", "shard"] = Field(
        default="replicate",
        title="'replicate' or 'shard'",
        description='How several processes hold the network. With `"replicate"` each has all of it. With `"shard"` '
        "each has some rows of each parameter, of its gradient and of its state in the optimizer. One process alone "
        "has all.",
    )
    iterations_per_epoch: int | None = Field(
        default=None,
        ge=1,
        title=f"{_COUNT}, or None",
        description="Training iterations per epoch. The next epoch continues where the last one ended, and a pass over "
        "the training set that ends is followed by the next. With None, an epoch is one pass over the training set.",
    )
    dataloader_num_workers: int = Field(
        default=0,
        ge=0,
        title="a whole number of at least 0",
        description="Processes that load data in advance; 0 loads it in the main process. The mini-batches are the "
        "same for any number.",
    )
    loss_function_params: dict[str, Any] | None = Field(
        default=None,
        title="a dict with keys of str, or None",
        description="Parameters for the loss. Your `loss_function` reads them from "
        "`self.config_session.loss_function_params`; tuples have become lists.",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**63,
        title="a whole number from 0 to 2**63 - 1, or None",
        description="Seed of all random numbers. With None, a seed is drawn. It is saved in `states/seeds.json`.",
    )
    checkpoint_every_n_iterations: int | None = Field(
        default=None,
        ge=1,
        title=f"{_COUNT}, or None",
        description="Training iterations between checkpoints, counted over the whole run. Another checkpoint is saved "
        "after each epoch. None turns it off.",
    )
    checkpoint_every_seconds: float | None = Field(
        default=60.0,
        gt=0,
        title="a number greater than 0, or None",
        description="Seconds between checkpoints. Another checkpoint is saved after each epoch. None turns it off.",
    )
    on_checkpoint_error: Literal["raise", "warn"] = Field(
        default="raise",
        title="'raise' or 'warn'",
        description='What happens when a checkpoint can\'t be written, as on a full disk. `"raise"` ends the run with '
        'the error; `"warn"` logs a warning and continues. Earlier checkpoints stay.',
    )
    on_logging_error: Literal["raise", "warn"] = Field(
        default="warn",
        title="'raise' or 'warn'",
        description="What happens when a logging backend fails, as when its server is gone or the disk is full. "
        '`"warn"` logs one warning that names the backend, and continues; `"raise"` ends the run with the error at the '
        "next iteration.",
    )
    nan_policy: Literal["raise", "skip", "stop"] = Field(
        default="raise",
        title="'raise', 'skip' or 'stop'",
        description='What happens when a loss is NaN or infinite. `"raise"` ends the run with an error, `"skip"` skips '
        'the mini-batch, `"stop"` skips it and ends the run.',
    )
    preemption_signal: Literal["SIGTERM", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGHUP"] | None = Field(
        default=None,
        title="'SIGTERM', 'SIGUSR1', 'SIGUSR2', 'SIGXCPU', 'SIGHUP' or None",
        description="The signal by which a scheduler announces that it will end the program, and start it again. The "
        "run stops as by SIGTERM, with a checkpoint, and the program exits with status 75. With None, a run that a "
        "signal has stopped ends by that signal.",
    )
    log_every_n_iterations: int = Field(
        default=1,
        ge=1,
        title=_COUNT,
        description="Iterations from one recorded iteration to the next, starting with the first. Averages include "
        "all iterations.",
    )
    metrics_every_n_iterations: int = Field(
        default=10,
        ge=1,
        title=_COUNT,
        description="Iterations from one computation of the metrics to the next, starting with the first of each "
        "epoch. The values of an epoch cover all samples of a validation set, and these mini-batches of the training "
        "set.",
    )
    deterministic: bool = Field(
        default=False,
        title="True or False",
        description="Whether torch uses deterministic algorithms only, during the run. Some operations then raise an "
        "error.",
    )
    group: str | None = Field(
        default=None,
        min_length=1,
        title="a text that isn't empty (str), or None",
        description="The group of the run, such as the name of a sweep. `torchbase runs` lists the runs of a group "
        "together, and `torchbase compare` measures the spread of those that differ only in their seed. It changes "
        "nothing in the training.",
    )
    plugins: tuple[str, ...] = Field(
        default=(),
        title="a list or tuple of plugin names (str)",
        description="Names of hooks that installed packages provide as entry points. They come after the default "
        "hooks, in this order.",
    )

    @property
    def checkpoint_intervals(self) -> list[Interval]:
        """How often a checkpoint is saved: after each epoch, and within epochs."""
        iterations, seconds = self.checkpoint_every_n_iterations, self.checkpoint_every_seconds
        in_iterations = [] if iterations is None else [Interval(iterations, "it")]
        in_seconds = [] if seconds is None else [Interval(seconds, "s")]
        return [Interval(1, "ep"), *in_iterations, *in_seconds]

    @field_validator("device_name")
    @classmethod
    def _check_device_name(cls, device_name: str) -> str:
        if device_name != "auto":
            parse_device(device_name)
        return device_name

    @field_validator("preemption_signal")
    @classmethod
    def _check_signal(cls, name: str | None) -> str | None:
        if name is not None and not hasattr(signal, name):
            raise ValueError(f"{sys.platform} has no signal {name}")
        return name

    @field_validator("plugins", mode="before")
    @classmethod
    def _list_as_tuple(cls, plugins: object) -> object:
        return tuple(plugins) if isinstance(plugins, list) else plugins
