"""Finds at which event of a hook a program is, or was when an error occurred."""

import inspect
import re
from types import CodeType, FrameType

from torchbase.engine.hook_checks import EVENT_NAMES


class HookFrames:
    """Recognizes the frames of the methods by which a hook implements events."""

    def __init__(self, hook: object) -> None:
        """Finds the methods.

        Args:
            hook: Any hook that can be registered.
        """
        methods = {event: getattr(hook, event, None) for event in EVENT_NAMES}
        codes = {event: getattr(method, "__code__", None) for event, method in methods.items()}
        self._events: dict[CodeType, str] = {code: event for event, code in codes.items() if code is not None}
        # Another hook may be of the same class; a function of a module has no object.
        self._owners = {code: getattr(methods[event], "__self__", None) for code, event in self._events.items()}

    def current_event(self) -> str | None:
        """Returns the innermost event at which the caller is; None outside of the hook."""
        frame = inspect.currentframe()
        while frame is not None:
            if self._is_of_hook(frame):
                return self._events[frame.f_code]
            frame = frame.f_back
        return None

    def event_of(self, error: BaseException) -> str | None:
        """Returns the innermost event at which an error was raised; None outside of the hook.

        Args:
            error: The error, after it was raised.
        """
        found, traceback = None, error.__traceback__
        while traceback is not None:
            if self._is_of_hook(traceback.tb_frame):
                found = self._events[traceback.tb_frame.f_code]
            traceback = traceback.tb_next
        return found

    def event_in(self, stack: str) -> str | None:
        """Returns the innermost event in a stack that `faulthandler` wrote; None outside of the hook.

        Args:
            stack: The stack, with the most recent call first.
        """
        events = {(code.co_filename, code.co_name): event for code, event in self._events.items()}
        calls = re.findall(r'^ *File "(.+)", line \d+ in (\w+)$', stack, re.MULTILINE)
        return next((events[call] for call in calls if call in events), None)

    def _is_of_hook(self, frame: FrameType) -> bool:
        code = frame.f_code
        if code not in self._events:
            return False
        owner = self._owners[code]
        return owner is None or any(frame.f_locals.get(name) is owner for name in code.co_varnames[:1])
