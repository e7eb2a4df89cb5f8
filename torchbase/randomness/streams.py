"""The global random streams: seeded, captured, restored, and left as they were after code that may draw from them."""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

from torchbase.randomness.numpy_stream import NUMPY_STREAM

RandomStates = Mapping[str, Any]


def seed_host_streams(seed: int) -> None:
    """Seeds the global streams of ``random``, numpy and torch on the host, in about 7 µs.

    It doesn't call ``torch.manual_seed``, which seeds every backend and takes a hundred times as long.

    Args:
        seed: An integer of at least 0.
    """
    random.seed(seed)
    NUMPY_STREAM.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


def seed_streams(seed: int, device: torch.device | None = None) -> None:
    """Seeds all global streams.

    Args:
        seed: An integer of at least 0.
        device: The device of the run. If it is an accelerator, the streams of all accelerators of its kind are seeded.
    """
    seed_host_streams(seed)
    if is_accelerator(device):
        module = torch.get_device_module(device)
        seed_all = getattr(module, "manual_seed_all", module.manual_seed)
        seed_all(seed)


def make_seed_function(device: torch.device | None) -> Callable[[int], None]:
    """Returns `seed_streams` for one device, for code that seeds in every iteration.

    Args:
        device: The device of the run.

    Returns:
        A function of the seed. It doesn't read the type of the device in each call, which takes as long as seeding
        torch.
    """
    return partial(seed_streams, device=device) if is_accelerator(device) else seed_host_streams


def capture_streams(device: torch.device | None = None) -> RandomStates:
    """Captures the state of all global streams.

    Args:
        device: The device of the run. If it is an accelerator, the state of its stream is included.

    Returns:
        Tensors and plain values, for `restore_streams`, or for a file that is loaded with ``weights_only=True``.
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
    if is_accelerator(device):
        states["accelerator"] = torch.get_device_module(device).get_rng_state(device)
    return states


def restore_streams(states: RandomStates, device: torch.device | None = None) -> None:
    """Restores all global streams.

    Args:
        states: The return value of `capture_streams`.
        device: The device of the run. The state of an accelerator is ignored if the device isn't one.
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
    if is_accelerator(device) and "accelerator" in states:
        torch.get_device_module(device).set_rng_state(states["accelerator"], device)


def streams_restorer(device: torch.device | None = None) -> Callable[[], None]:
    """Captures the state of all global streams for this process, which is faster than a state for a file.

    Args:
        device: The device of the run, as in `capture_streams`.

    Returns:
        A function that restores the streams, as often as it is called.
    """
    restore_numpy, state, torch_state = NUMPY_STREAM.capture(), random.getstate(), torch.default_generator.get_state()
    accelerator = torch.get_device_module(device) if is_accelerator(device) else None
    accelerator_state = accelerator.get_rng_state(device) if accelerator is not None else None

    def restore() -> None:
        restore_numpy()
        random.setstate(state)
        torch.default_generator.set_state(torch_state)
        if accelerator is not None:
            accelerator.set_rng_state(accelerator_state, device)

    return restore


def pack_streams(states: RandomStates) -> RandomStates:
    """Returns captured states for a file, in which the hundreds of numbers of ``random`` are one tensor."""
    version, words, gauss = states["random"]
    key = torch.from_numpy(np.array(words, dtype=np.uint32))
    return {**states, "random": {"version": version, "key": key, "gauss": gauss}}


def unpack_streams(states: RandomStates) -> RandomStates:
    """Unpacks states that `pack_streams` packed, for `restore_streams`."""
    packed = states["random"]
    return {**states, "random": (packed["version"], tuple(packed["key"].tolist()), packed["gauss"])}


@contextmanager
def isolate_rng(device: torch.device | None = None) -> Iterator[None]:
    """Restores the global random streams after the code in its ``with`` block, even if the code raises an error.

    They are those of ``random``, numpy and torch. What a hook draws in the block doesn't affect what the training draws
    afterwards::

        with isolate_rng(run.device):
            noise = torch.randn(3)

    Args:
        device: The device of the run. If it is an accelerator, its stream is restored, too.

    Yields:
        None.
    """
    restore = streams_restorer(device)
    try:
        yield
    finally:
        restore()


def is_accelerator(device: torch.device | None) -> bool:
    """Whether a device has a random stream of its own."""
    return device is not None and device.type not in ("cpu", "meta")
