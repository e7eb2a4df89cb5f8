"""The runs in which a hook is tried: without it, uninterrupted, stopped or killed and resumed."""

import copy
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torchbase.checkpoints.storage import newest_whole_checkpoint
from torchbase.engine.hook_checks import name_of
from torchbase.errors import HookCheckError, RunDirectoryError
from torchbase.hooks import Console
from torchbase.run_directory.names import STATES_FOLDER
from torchbase.session.base import TrainingBaseSession
from torchbase.testing.instruments import CopyAt, EventLog, KillAt, Killed, StateRecorder, StopAt, find_unsavable
from torchbase.testing.other_process import call_in_process
from torchbase.testing.outcomes import collect_outcome
from torchbase.testing.tiny_session import NoisySession, tiny_config
from torchbase.testing.tried_run import TriedRun, read_events

EVENTS_FILE = "events.txt"


class HookTrial:
    """Runs of one hook in one session. Runs that several checks need are run once.

    Attributes:
        make_hook: Creates a new hook for each run.
        session_class: The class of the sessions.
        config: Their config, which has a seed.
    """

    def __init__(
        self,
        make_hook: Callable[[], object],
        session_class: type[TrainingBaseSession] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepares the runs.

        Args:
            make_hook: Creates the hook; called without arguments, once for each run. If it can be imported (a class, a
                function, a ``functools.partial`` of one), the hook can also be tried in another process.
            session_class: The class of the session in which the hook is tried, with the constructor of
                `TrainingBaseSession`; by default `NoisySession`, which is tiny.
            config: The config of the session; by default the config of the tiny session.

        Raises:
            HookCheckError: If a class is passed without a config.
        """
        if session_class is not None and config is None:
            raise HookCheckError(
                f"{session_class.__name__} was passed without a config. To fix, pass a config, too, with few epochs "
                "and little data: there are about thirty runs."
            )
        self.make_hook = make_hook
        self.session_class = session_class if session_class is not None else NoisySession
        self.config = copy.deepcopy(dict(config if config is not None else tiny_config()))
        section = self.config.setdefault("session", {})
        if section.get("seed") is None:
            section["seed"] = 1
        section["dataloader_num_workers"] = 0  # the number makes no difference, and workers start slowly
        self._stopped: dict[tuple[str, int], TriedRun] = {}

    @cached_property
    def name(self) -> str:
        """The hook's name."""
        return name_of(self.make_hook())

    @cached_property
    def without(self) -> TriedRun:
        """An uninterrupted run without the hook."""
        return self.run(with_hook=False)

    @cached_property
    def unbroken(self) -> TriedRun:
        """An uninterrupted run with the hook."""
        return self.run()

    @cached_property
    def again(self) -> TriedRun:
        """A second uninterrupted run with the hook."""
        return self.run()

    def run(self, *, with_hook: bool = True, watched_by: Sequence[object] = ()) -> TriedRun:
        """Runs a session from its start to its end.

        Args:
            with_hook: Whether the hook is registered.
            watched_by: Hooks to register after it.

        Returns:
            The run.

        Raises:
            HookCheckError: If the run ends with an error.
        """
        with _folder() as parent:
            return self._run_session(parent, self.make_hook() if with_hook else None, *watched_by)

    def stopped_at(self, phase: str, iteration: int) -> TriedRun:
        """Returns the run of `run_stopped`, which is run once; see `run_stopped`."""
        if (phase, iteration) not in self._stopped:
            self._stopped[phase, iteration] = self.run_stopped(phase, iteration)
        return self._stopped[phase, iteration]

    def run_stopped(self, phase: str, iteration: int, watched_by: Sequence[object] = ()) -> TriedRun:
        """Stops a run, and resumes it.

        Args:
            phase: The name of the phase in which to stop.
            iteration: The iteration after which to stop, of the phase, counted over the whole run.
            watched_by: Hooks to register after the hook.

        Returns:
            The run, with both parts.

        Raises:
            HookCheckError: If a part ends with an error.
        """
        with _folder() as parent:
            self._run_session(parent, self.make_hook(), *watched_by, StopAt(iteration, phase))
            return self._resume(parent, *watched_by)

    def run_killed(self, phase: str, iteration: int) -> TriedRun:
        """Kills a run in another process, and resumes it.

        If another process can't create the hook, the run directory is copied at that point instead.

        Args:
            phase: The name of the phase in which to kill it.
            iteration: The iteration at whose end to kill it, of the phase, counted over the whole run.

        Returns:
            The run, with both parts.

        Raises:
            HookCheckError: If a part ends with an error, or the first part isn't killed.
        """
        with _folder() as parent:
            trial = self.with_keys()  # without the finished runs, which need not be sent
            result = call_in_process(partial(trial.live_until_killed, parent, phase, iteration))
            if result.could_start and not result.was_killed:
                raise HookCheckError(f"A run in another process ended before it could be killed:\n{result.message}")
            if not result.could_start:
                self.live_until_copied(parent, phase, iteration)
            return self._resume(parent, note=result.message if not result.could_start else "")

    def live_until_killed(self, parent: Path, phase: str, iteration: int) -> None:
        """Runs a session that kills its process.

        Args:
            parent: The folder of the run directory.
            phase: The name of the phase in which to kill it.
            iteration: The iteration at whose end to kill it, of the phase, counted over the whole run.
        """
        self._run_session(parent, self.make_hook(), KillAt(iteration, phase))

    def live_until_copied(self, parent: Path, phase: str, iteration: int) -> None:
        """Runs a session until its run directory is copied, as a kill would leave it.

        Args:
            parent: The folder for the copy.
            phase: The name of the phase in which to copy it.
            iteration: The iteration at whose end to copy it, of the phase, counted over the whole run.
        """
        with _folder() as original:
            try:
                self._run_session(original, self.make_hook(), CopyAt(iteration, phase, parent))
            except Killed:
                shutil.copy(original / EVENTS_FILE, parent)

    def with_keys(self, **keys: Any) -> "HookTrial":
        """Returns a trial of the same hook with another config.

        Args:
            **keys: Keys of the section ``session`` to add or change.
        """
        config = {**self.config, "session": {**self.config["session"], **keys}}
        return HookTrial(self.make_hook, self.session_class, config)

    def session(self, parent: Path, hooks: Sequence[object], tag: str | None = None) -> TrainingBaseSession:
        """Creates a session with hooks after the default hooks, so that they are called for ``on_setup_start``, too.

        Args:
            parent: The folder of the run directory.
            hooks: The hooks.
            tag: The run to resume; None for a new run.

        Returns:
            A session without console output.
        """

        def default_hooks(session: TrainingBaseSession) -> list[object]:
            standard = self.session_class.default_hooks(session)
            return [*(hook for hook in standard if not isinstance(hook, Console)), *hooks]

        kind = type(self.session_class.__name__, (self.session_class,), {"default_hooks": default_hooks})
        session: TrainingBaseSession = kind(
            self.config, parent, create_run_dir_afresh=tag is None, source_run_dir_tag=tag
        )
        return session

    def _run_session(self, parent: Path, hook: object | None, *others: object, tag: str | None = None) -> TriedRun:
        recorder = StateRecorder(hook)
        checked = () if hook is None else (hook,)
        with (parent / EVENTS_FILE).open("a", buffering=1, encoding="utf-8") as file, _errors_explained(hook):
            session = self.session(parent, [*checked, EventLog(file), recorder, *others], tag)
            summary = session()
        outcome, events = collect_outcome(session, summary, recorder.state_at_end), read_events(parent / EVENTS_FILE)
        return TriedRun(outcome, events, recorder.attributes_at_end, restored_state=recorder.state_at_start)

    def _resume(self, parent: Path, *others: object, note: str = "") -> TriedRun:
        (run_dir,) = (path for path in parent.iterdir() if path.is_dir())
        checkpoint = newest_whole_checkpoint(run_dir / STATES_FOLDER)
        state = checkpoint.parts["training"]["hooks"].get(self.name) if checkpoint is not None else None
        run = self._run_session(parent, self.make_hook(), *others, tag=run_dir.name)
        return replace(run, saved_state=state, note=note)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="torchbase-hook-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def _errors_explained(hook: object | None) -> Iterator[None]:
    try:
        yield
    except HookCheckError:
        raise
    except Exception as error:
        which = "without the hook" if hook is None else "with the hook"
        notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
        message = f"A run {which} ended with {type(error).__name__}: {error}{notes}"
        names = find_unsavable(hook) if isinstance(error, RunDirectoryError) else []
        if names:
            message += f". A checkpoint can't save {', '.join(map(repr, names))} of its state_dict()."
        raise HookCheckError(message) from error
