"""The smallest session that trains, under short names, and a hook for the tests of torchbase."""

from torchbase import hookimpl
from torchbase.testing import TINY_CONFIG as CONFIG
from torchbase.testing import StopAt, TinyNetwork, TinySession, read_scalars
from torchbase.testing import tiny_config as config_with
from torchbase.testing import tiny_dataset as make_dataset

__all__ = [
    "CONFIG",
    "KeepNetworks",
    "StopAt",
    "TinyNetwork",
    "TinySession",
    "config_with",
    "make_dataset",
    "read_scalars",
]


class KeepNetworks:
    """Stores the network of each epoch."""

    def __init__(self):
        self.networks = {}

    @hookimpl
    def on_epoch_end(self, run):
        self.networks[run.epoch] = {name: value.clone() for name, value in run.network.state_dict().items()}
