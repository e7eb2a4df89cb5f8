"""The runs in which a hook is tried: without it, unbroken, stopped or killed and resumed."""

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
from torchbase.engine.plugins import name_of
from torchbase.errors import HookCheckError, RunDirectoryError
from torchbase.hooks import Console
from torchbase.run_directory.names import STATES_FOLDER
from torchbase.session.base import TrainingBaseSession
from torchbase.testing.instruments import CopyAt, KillAt, Killed, StopAt, Tally, Witness, names_not_kept
from torchbase.testing.other_process import call_in_a_process
from torchbase.testing.outcomes import outcome_of
from torchbase.testing.tiny_session import NoisySession, tiny_config
from torchbase.testing.tried_run import TriedRun, told_in

TALLY_FILE = "tally.txt"


class HookTrial:
    """Runs of one hook in one session; those that several checks need are done once.

    Attributes:
        make_hook: Makes the hook anew for each run.
        session_class: The class of the sessions.
        config: Their config; it has a seed.
    """

    def __init__(
        self,
        make_hook: Callable[[], object],
        session_class: type[TrainingBaseSession] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepares the runs.

        Args:
            make_hook: Makes the hook; called without arguments, for each run anew. What can be imported (a class, a
                function, a ``functools.partial`` of one) can be tried in a process of its own, too.
            session_class: The class of the session to try it in, with the constructor of `TrainingBaseSession`; without
                one `NoisySession`, which is tiny.
            config: The config of the session; without one that of the tiny session.

        Raises:
            HookCheckError: If a class is given and no config.
        """
        if session_class is not None and config is None:
            raise HookCheckError(
                f"{session_class.__name__} was given, and no config for it. To fix, give one, with few epochs and "
                "little data: about thirty runs are made with it."
            )
        self.make_hook = make_hook
        self.session_class = session_class if session_class is not None else NoisySession
        self.config = copy.deepcopy(dict(config if config is not None else tiny_config()))
        section = self.config.setdefault("session", {})
        if section.get("seed") is None:
            section["seed"] = 1
        section["dataloader_num_workers"] = 0  # the number makes no difference, and workers take long to start
        self._stopped: dict[tuple[str, int], TriedRun] = {}

    @cached_property
    def name(self) -> str:
        """The hook's name."""
        return name_of(self.make_hook())

    @cached_property
    def without(self) -> TriedRun:
        """An unbroken run without the hook."""
        return self.run(with_hook=False)

    @cached_property
    def unbroken(self) -> TriedRun:
        """An unbroken run with the hook."""
        return self.run()

    @cached_property
    def again(self) -> TriedRun:
        """The same a second time."""
        return self.run()

    def run(self, *, with_hook: bool = True, watched_by: Sequence[object] = ()) -> TriedRun:
        """Runs a session from its start to its end.

        Args:
            with_hook: Whether the hook is there.
            watched_by: Hooks to register behind it.

        Returns:
            The run.

        Raises:
            HookCheckError: If it ends with an error.
        """
        with _folder() as parent:
            return self._live(parent, self.make_hook() if with_hook else None, *watched_by)

    def stopped_at(self, phase: str, iteration: int) -> TriedRun:
        """Gives the run of `run_stopped`, which is done once; see `run_stopped`."""
        if (phase, iteration) not in self._stopped:
            self._stopped[phase, iteration] = self.run_stopped(phase, iteration)
        return self._stopped[phase, iteration]

    def run_stopped(self, phase: str, iteration: int, watched_by: Sequence[object] = ()) -> TriedRun:
        """Stops a run, and goes on with it.

        Args:
            phase: The name of the phase in which to stop.
            iteration: The iteration of the phase, counted over the whole run, behind which to stop.
            watched_by: Hooks to register behind the hook.

        Returns:
            The run, both parts as one.

        Raises:
            HookCheckError: If one of them ends with an error.
        """
        with _folder() as parent:
            self._live(parent, self.make_hook(), *watched_by, StopAt(iteration, phase))
            return self._go_on(parent, *watched_by)

    def run_killed(self, phase: str, iteration: int) -> TriedRun:
        """Kills a run in a process of its own, and goes on with it.

        Where the hook can't be made in another process, the run directory is copied at that point in place of a kill.

        Args:
            phase: The name of the phase in which to kill it.
            iteration: The iteration of the phase, counted over the whole run, at whose end to kill it.

        Returns:
            The run, both parts as one.

        Raises:
            HookCheckError: If one of them ends with an error, or the first isn't killed.
        """
        with _folder() as parent:
            there = self.with_keys()  # without the runs that were done already, which need not be sent
            ended = call_in_a_process(partial(there.live_until_killed, parent, phase, iteration))
            if ended.could_begin and not ended.was_killed:
                raise HookCheckError(f"A run in a process of its own ended before it was to be killed:\n{ended.said}")
            if not ended.could_begin:
                self.live_until_copied(parent, phase, iteration)
            return self._go_on(parent, note=ended.said if not ended.could_begin else "")

    def live_until_killed(self, parent: Path, phase: str, iteration: int) -> None:
        """Runs a session that kills its process.

        Args:
            parent: The folder of the run directory.
            phase: The name of the phase in which to kill it.
            iteration: The iteration of the phase, counted over the whole run, at whose end to kill it.
        """
        self._live(parent, self.make_hook(), KillAt(iteration, phase))

    def live_until_copied(self, parent: Path, phase: str, iteration: int) -> None:
        """Runs a session until its run directory is copied, as a kill would leave it.

        Args:
            parent: The folder to copy it into.
            phase: The name of the phase in which to copy it.
            iteration: The iteration of the phase, counted over the whole run, at whose end to copy it.
        """
        with _folder() as original:
            try:
                self._live(original, self.make_hook(), CopyAt(iteration, phase, parent))
            except Killed:
                shutil.copy(original / TALLY_FILE, parent)

    def with_keys(self, **keys: Any) -> "HookTrial":
        """Gives a trial of the same hook with another config.

        Args:
            **keys: Keys of the section ``session`` to add or change.
        """
        config = {**self.config, "session": {**self.config["session"], **keys}}
        return HookTrial(self.make_hook, self.session_class, config)

    def session(self, parent: Path, hooks: Sequence[object], tag: str | None = None) -> TrainingBaseSession:
        """Makes a session that has hooks behind the default ones, so that they hear ``on_setup_start``, too.

        Args:
            parent: The folder of the run directory.
            hooks: The hooks.
            tag: The run to go on with; None for a new one.

        Returns:
            A session that shows nothing in the terminal.
        """

        def default_hooks(session: TrainingBaseSession) -> list[object]:
            standard = self.session_class.default_hooks(session)
            return [*(one for one in standard if not isinstance(one, Console)), *hooks]

        kind = type(self.session_class.__name__, (self.session_class,), {"default_hooks": default_hooks})
        session: TrainingBaseSession = kind(
            self.config, parent, create_run_dir_afresh=tag is None, source_run_dir_tag=tag
        )
        return session

    def _live(self, parent: Path, hook: object | None, *others: object, tag: str | None = None) -> TriedRun:
        witness = Witness(hook)
        tested = () if hook is None else (hook,)
        with (parent / TALLY_FILE).open("a", buffering=1, encoding="utf-8") as tally, _errors_explained(hook):
            session = self.session(parent, [*tested, Tally(tally), witness, *others], tag)
            summary = session()
        outcome, told = outcome_of(session, summary, witness.state_at_end), told_in(parent / TALLY_FILE)
        return TriedRun(outcome, told, witness.attributes_at_end, restored_state=witness.state_at_start)

    def _go_on(self, parent: Path, *others: object, note: str = "") -> TriedRun:
        (run_dir,) = (path for path in parent.iterdir() if path.is_dir())
        saved = newest_whole_checkpoint(run_dir / STATES_FOLDER)
        kept = saved.parts["training"]["hooks"].get(self.name) if saved is not None else None
        run = self._live(parent, self.make_hook(), *others, tag=run_dir.name)
        return replace(run, kept_state=kept, note=note)


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
        explained = f"A run {which} ended with {type(error).__name__}: {error}{notes}"
        names = names_not_kept(hook) if isinstance(error, RunDirectoryError) else []
        if names:
            explained += f". Of its state_dict() {', '.join(map(repr, names))} can't be kept in a checkpoint."
        raise HookCheckError(explained) from error
