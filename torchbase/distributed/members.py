"""What is known of each process of a training: its machine, its device, and what the last bits of sums depend on."""

from typing import NamedTuple


class Member(NamedTuple):
    """One of the processes of a training.

    Attributes:
        host: The name of its machine.
        device: Its device, such as ``cuda:1``.
        device_name: The model of its device; for a CPU, the instructions that torch uses, such as ``AVX2``.
        thread_count: The number of threads that torch uses on the CPU.
    """

    host: str
    device: str
    device_name: str
    thread_count: int
