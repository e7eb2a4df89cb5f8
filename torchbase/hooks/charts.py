"""Shows several curves in one chart: training and validation, or a layout of the user."""

from collections.abc import Iterable, Mapping
from typing import Any

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.errors import HookError, did_you_mean

CATEGORY = "training and validation"
BEST_LOSS = "best_loss"

Layout = Mapping[str, Mapping[str, Iterable[str]]]


class Charts:
    """Groups curves into charts for the logging backends.

    Without a layout, each value has one chart, with a curve over the epochs for every phase. The tags of a layout are
    checked before training, against the values of the rehearsal. Without a rehearsal, they are checked at the end of
    the first epoch after which every phase has run.
    """

    main_process_only = True

    def __init__(self, layout: Layout | None = None, also_logged: Iterable[str] = ()) -> None:
        """Sets the charts.

        Args:
            layout: The tags of each chart, by category and chart:
                ``{"losses": {"loss": ["training/loss/epochs", "validation-valid/loss/epochs"]}}``.
            also_logged: Tags that the rehearsal can't see, because a custom hook logs them, or ``forward_pass`` logs
                them only sometimes.

        Raises:
            HookError: If the layout has another form.
        """
        self._layout = None if layout is None else _checked_copy(layout)
        self._also_logged = frozenset(also_logged)
        self._seen_tags: dict[str, None] = {}  # an ordered set
        self._is_logged = False

    @hookimpl
    def on_run_start(self) -> None:
        """Resets the state, because the backends of this run may differ from those of the last run."""
        self._seen_tags.clear()
        self._is_logged = False

    @hookimpl
    def on_epoch_start(self, run: Run) -> None:
        """Logs the layout before the first epoch if the tags are known from the rehearsal."""
        if not self._is_logged and all(phase.value_names is not None for phase in run.phases):
            self._log_layout(run, _expected_tags(run))

    @hookimpl
    def log_scalars(self, scalars: Mapping[str, float]) -> None:
        """Records the tags until the layout is logged."""
        if not self._is_logged:
            self._seen_tags.update(dict.fromkeys(scalars))

    @hookimpl
    def on_epoch_end(self, run: Run) -> None:
        """Logs the layout, if it is not logged yet, after the first epoch by which every phase has run."""
        if not self._is_logged and all(phase.progress.iterations for phase in run.phases):
            self._log_layout(run, [*self._seen_tags])

    def _log_layout(self, run: Run, tags: Iterable[str]) -> None:
        self._is_logged = True
        self._seen_tags.clear()
        if self._layout is not None:
            best = (phase.tag(BEST_LOSS, "epochs") for phase in run.validation)
            _check_tags(self._layout, {*tags, *best, *self._also_logged})
        layout = _one_chart_per_value(run, tags) if self._layout is None else self._layout
        run.call.log_layout(run=run, layout=layout)


def _checked_copy(layout: Layout) -> dict[str, dict[str, list[str]]]:
    if not isinstance(layout, Mapping) or not all(isinstance(charts, Mapping) for charts in layout.values()):
        raise _wrong_form(layout)
    copied: dict[str, dict[str, list[str]]] = {}
    for category, charts in layout.items():
        copied[category] = {}
        for chart, tags in charts.items():
            if isinstance(tags, str) or not isinstance(tags, Iterable):
                raise _wrong_form({category: {chart: tags}})
            copied[category][chart] = [*tags]
    return copied


def _wrong_form(layout: Any) -> HookError:
    return HookError(
        f"Charts expects lists of tags by category and chart, but got {layout!r}. "
        'To fix, write e.g. Charts({"losses": {"loss": ["training/loss/epochs", "validation-valid/loss/epochs"]}}).'
    )


def _expected_tags(run: Run) -> list[str]:
    return [
        phase.tag(name, unit)
        for phase in run.phases
        if (names := phase.value_names) is not None
        for unit, of_unit in (("iterations", names.of_iterations), (run.curve(phase)[0], names.of_epochs))
        for name in of_unit
    ]


def _one_chart_per_value(run: Run, tags: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    charts: dict[str, list[str]] = {}
    for tag in tags:
        for phase in run.phases:
            unit = run.curve(phase)[0]
            name = tag.removeprefix(f"{phase.name}/").removesuffix(f"/{unit}")
            if tag == phase.tag(name, unit):
                chart = name if unit == "epochs" else f"{name} within epochs"  # their steps are training iterations
                charts.setdefault(chart, []).append(tag)
    return {CATEGORY: charts}


def _check_tags(layout: Mapping[str, Mapping[str, Iterable[str]]], known: Iterable[str]) -> None:
    known = sorted(known)
    unknown = [
        f"  {tag!r}, in the chart {chart!r} of {category!r}.{did_you_mean(tag, known)}"
        for category, charts in layout.items()
        for chart, tags in charts.items()
        for tag in tags
        if tag not in known
    ]
    if unknown:
        raise HookError(
            "\n".join(
                [
                    "The layout of Charts contains tags that nothing logs:",
                    *unknown,
                    f"Available: {', '.join(known)}. To fix, correct the tags, or list in also_logged those that a "
                    "custom hook logs.",
                ]
            )
        )
