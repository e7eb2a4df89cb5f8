"""Seeds, and the random streams that a training program draws from.

Everything random of a run derives from one seed: each purpose (building the network, the order of an epoch, the
augmentation of a mini-batch) gets a seed of its own by name, so that none of them depends on how much another drew.
The global streams (``random``, numpy's legacy generator, torch's default generator and the run's accelerator) can be
seeded, captured, restored, and fenced: put back as they were after a piece of code that may draw from them.
"""

import hashlib
import json
import random
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

RandomStates = Mapping[str, Any]

_SEEDS_IN_BLOCK = 64


def draw_seed() -> int:
    """Draws a fresh seed from the operating system.

    Returns:
        A whole number from 0 to 2**32 - 1.
    """
    return secrets.randbelow(2**32)


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Derives the seed of one purpose from the seed of a run.

    Args:
        seed: The seed of the run.
        *purpose: What the seed is for, from the general to the particular, e.g. ``"order", "training", 3``.

    Returns:
        A whole number from 0 to 2**63 - 1; the same for the same arguments on every machine.
    """
    text = json.dumps([seed, *purpose])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


class SeedSeries:
    """The seeds of one purpose by number, each as `derive_seed` gives it, for what needs one at every iteration.

    They are derived in blocks: beside a training, code that runs once now and then takes ten times as long as code that
    runs many times at once.
    """

    def __init__(self, seed: int, *purpose: str | int) -> None:
        """Prepares what the seeds have in common.

        Args:
            seed: The seed of the run.
            *purpose: What the seeds are for, without the number.
        """
        beginning = json.dumps([seed, *purpose, 0]).removesuffix("0]")
        self._beginning = hashlib.blake2b(beginning.encode(), digest_size=8)
        self._block: list[int] = []
        self._first = 0

    def at(self, number: int) -> int:
        """Gives ``derive_seed(seed, *purpose, number)``."""
        position = number - self._first
        if not 0 <= position < len(self._block):
            self._first, position = number, 0
            self._block = [self._derive(number + ahead) for ahead in range(_SEEDS_IN_BLOCK)]
        return self._block[position]

    def _derive(self, number: int) -> int:
        whole = self._beginning.copy()
        whole.update(b"%d]" % number)
        return int.from_bytes(whole.digest(), "big") >> 1


def seed_host_streams(seed: int) -> None:
    """Seeds the global streams of ``random``, numpy and torch on the host; takes about 7 µs.

    ``torch.manual_seed`` isn't used: it visits every backend and so costs a hundred times as much.

    Args:
        seed: A whole number of at least 0.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


def seed_streams(seed: int, device: torch.device | None = None) -> None:
    """Seeds every global stream.

    Args:
        seed: A whole number of at least 0.
        device: The run's device; where it is an accelerator, the streams of all accelerators of its kind are seeded.
    """
    seed_host_streams(seed)
    if _is_accelerator(device):
        module = torch.get_device_module(device)
        seed_all = getattr(module, "manual_seed_all", module.manual_seed)
        seed_all(seed)


def seeding_of(device: torch.device | None) -> Callable[[int], None]:
    """Gives `seed_streams` of one device, for who seeds at every iteration.

    Args:
        device: The run's device.

    Returns:
        A function of the seed. It doesn't ask the device for its type each time, which takes as long as to seed torch.
    """
    return partial(seed_streams, device=device) if _is_accelerator(device) else seed_host_streams


def capture_streams(device: torch.device | None = None) -> RandomStates:
    """Reads the state of every global stream.

    Args:
        device: The run's device; its own stream is read too where it is an accelerator.

    Returns:
        Tensors and plain values, for `restore_streams` and for a file that is read with ``weights_only=True``.
    """
    numpy_state: dict[str, Any] = dict(np.random.get_state(legacy=False))
    states = {
        "random": random.getstate(),
        "numpy": {
            "bit_generator": numpy_state["bit_generator"],
            "key": torch.from_numpy(numpy_state["state"]["key"]),
            "position": int(numpy_state["state"]["pos"]),
            "has_gauss": int(numpy_state["has_gauss"]),
            "gauss": float(numpy_state["gauss"]),
        },
        "torch": torch.default_generator.get_state(),
    }
    if _is_accelerator(device):
        states["accelerator"] = torch.get_device_module(device).get_rng_state(device)
    return states


def restore_streams(states: RandomStates, device: torch.device | None = None) -> None:
    """Puts every global stream back into a captured state.

    Args:
        states: What `capture_streams` returned.
        device: The run's device. A state of an accelerator's stream is left out where the device isn't one.
    """
    random.setstate(states["random"])
    numpy_state = states["numpy"]
    np.random.set_state(
        {
            "bit_generator": numpy_state["bit_generator"],
            "state": {"key": numpy_state["key"].numpy(), "pos": numpy_state["position"]},
            "has_gauss": numpy_state["has_gauss"],
            "gauss": numpy_state["gauss"],
        }
    )
    torch.default_generator.set_state(states["torch"])
    if _is_accelerator(device) and "accelerator" in states:
        torch.get_device_module(device).set_rng_state(states["accelerator"], device)


def as_tensors(states: RandomStates) -> RandomStates:
    """Puts captured states into few parts, for a file: the hundreds of numbers of ``random`` into one tensor.

    Args:
        states: What `capture_streams` returned.

    Returns:
        Tensors and plain values, for `from_tensors` and for a file that is read with ``weights_only=True``.
    """
    version, words, gauss = states["random"]
    key = torch.from_numpy(np.array(words, dtype=np.uint32))
    return {**states, "random": {"version": version, "key": key, "gauss": gauss}}


def from_tensors(states: RandomStates) -> RandomStates:
    """Gives the states back that `as_tensors` was given, for `restore_streams`."""
    kept = states["random"]
    return {**states, "random": (kept["version"], tuple(kept["key"].tolist()), kept["gauss"])}


@contextmanager
def fence(device: torch.device | None = None) -> Iterator[None]:
    """Puts the global streams back as they were, whatever the code inside draws.

    Args:
        device: The run's device; its own stream is fenced too where it is an accelerator.

    Yields:
        Nothing.
    """
    states = capture_streams(device)
    try:
        yield
    finally:
        restore_streams(states, device)


@dataclass(frozen=True)
class Randomness:
    """The one seed that everything random of a run derives from.

    Attributes:
        seed: A whole number of at least 0.
    """

    seed: int

    def derive(self, *purpose: str | int) -> int:
        """Derives the seed of one purpose; see `derive_seed`."""
        return derive_seed(self.seed, *purpose)

    def series(self, *purpose: str | int) -> SeedSeries:
        """Gives the seeds of one purpose by number; see `SeedSeries`."""
        return SeedSeries(self.seed, *purpose)

    @contextmanager
    def seeded(self, *purpose: str | int, device: torch.device | None = None) -> Iterator[None]:
        """Seeds the global streams for one purpose, and puts them back afterwards.

        Args:
            *purpose: What the streams are for, from the general to the particular.
            device: The run's device.

        Yields:
            Nothing.
        """
        with fence(device):
            seed_streams(self.derive(*purpose), device)
            yield


def _is_accelerator(device: torch.device | None) -> bool:
    return device is not None and device.type not in ("cpu", "meta")
