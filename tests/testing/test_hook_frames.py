import faulthandler
import types

import pytest

from torchbase import hookimpl
from torchbase.testing.hook_frames import HookFrames


class Calls:
    """Calls a function at one event, and within another."""

    def __init__(self, function):
        self.function = function

    @hookimpl
    def on_epoch_end(self):
        return self.function()

    @hookimpl(wrapper=True)
    def run_phase(self):
        self.helper()
        yield

    def helper(self):
        return self.function()


def test_the_innermost_event_is_found():
    found = []
    hook = Calls(lambda: found.append(frames.current_event()))
    frames = HookFrames(hook)
    hook.on_epoch_end()
    next(hook.run_phase())
    Calls(hook.function).on_epoch_end()  # another hook of the class
    Calls(hook.on_epoch_end).on_epoch_end()
    hook.function()
    assert found == ["on_epoch_end", "run_phase", None, "on_epoch_end", None]


def test_the_event_of_an_error_is_found():
    def fail():
        raise OSError

    hook = Calls(fail)
    with pytest.raises(OSError) as raised:
        hook.on_epoch_end()
    assert HookFrames(hook).event_of(raised.value) == "on_epoch_end"
    assert HookFrames(Calls(fail)).event_of(raised.value) is None


def test_the_functions_of_a_module_are_events():
    found = []
    module = types.ModuleType("my_hook")
    module.on_epoch_end = lambda: found.append(frames.current_event())
    frames = HookFrames(module)
    module.on_epoch_end()
    assert found == ["on_epoch_end"]


def test_the_event_in_a_stack_of_text_is_found(tmp_path):
    path = tmp_path / "stack.txt"

    def write():
        with path.open("w") as file:
            faulthandler.dump_traceback(file)

    hook = Calls(write)
    hook.on_epoch_end()
    assert HookFrames(hook).event_in(path.read_text()) == "on_epoch_end"
    write()
    assert HookFrames(hook).event_in(path.read_text()) is None
    assert HookFrames(hook).event_in("") is None
