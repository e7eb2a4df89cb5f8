"""Shows curves together: training beside validation, or whatever the user wants in one chart."""

from collections.abc import Iterable, Mapping
from typing import Any

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.errors import HookError, did_you_mean

CATEGORY = "training and validation"
BEST_LOSS = "best_loss"

Layout = Mapping[str, Mapping[str, Iterable[str]]]


class Charts:
    """Tells the logging backends which curves belong into one chart.

    Without a layout each value has a chart, with its curve over the epochs of every phase. The tags of a layout are
    checked before training, by what the rehearsal saw; where there is no rehearsal, at the end of the first epoch by
    which every phase was run.
    """

    def __init__(self, layout: Layout | None = None, also_logged: Iterable[str] = ()) -> None:
        """Sets which charts there are.

        Args:
            layout: The tags of each chart, by category and chart:
                ``{"losses": {"loss": ["training/loss/epochs", "validation-valid/loss/epochs"]}}``.
            also_logged: Tags that the rehearsal can't see, since a hook of yours logs them, or ``forward_pass`` does so
                now and then.

        Raises:
            HookError: If the layout has another form.
        """
        self._layout = None if layout is None else _checked(layout)
        self._also_logged = frozenset(also_logged)
        self._logged: dict[str, None] = {}  # in place of a set, for its order
        self._has_told = False

    @hookimpl
    def on_run_start(self) -> None:
        """Begins anew: a backend may be another one now."""
        self._logged.clear()
        self._has_told = False

    @hookimpl
    def on_epoch_start(self, run: Run) -> None:
        """Tells the layout before the first epoch, where the tags are known."""
        if not self._has_told and all(phase.value_names is not None for phase in run.phases):
            self._tell(run, _tags_to_come(run))

    @hookimpl
    def log_scalars(self, scalars: Mapping[str, float]) -> None:
        """Notes the tags, as long as the layout isn't told."""
        if not self._has_told:
            self._logged.update(dict.fromkeys(scalars))

    @hookimpl
    def on_epoch_end(self, run: Run) -> None:
        """Tells the layout behind the first epoch in which every phase was run, where it wasn't told before."""
        if not self._has_told and all(phase.progress.iterations for phase in run.phases):
            self._tell(run, [*self._logged])

    def _tell(self, run: Run, tags: Iterable[str]) -> None:
        self._has_told = True
        self._logged.clear()
        if self._layout is not None:
            best = (phase.tag(BEST_LOSS, "epochs") for phase in run.validation)
            _check_tags(self._layout, {*tags, *best, *self._also_logged})
        layout = _one_chart_a_value(run, tags) if self._layout is None else self._layout
        run.call.log_layout(run=run, layout=layout)


def _checked(layout: Layout) -> dict[str, dict[str, list[str]]]:
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


def _wrong_form(came: Any) -> HookError:
    return HookError(
        f"Charts takes lists of tags by category and chart, and got {came!r}. "
        'To fix, write e.g. Charts({"losses": {"loss": ["training/loss/epochs", "validation-valid/loss/epochs"]}}).'
    )


def _tags_to_come(run: Run) -> list[str]:
    return [
        phase.tag(name, unit)
        for phase in run.phases
        if (names := phase.value_names) is not None
        for unit, of_unit in (("iterations", names.of_iterations), (run.curve(phase)[0], names.of_epochs))
        for name in of_unit
    ]


def _one_chart_a_value(run: Run, tags: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    charts: dict[str, list[str]] = {}
    for tag in tags:
        for phase in run.phases:
            unit = run.curve(phase)[0]
            name = tag.removeprefix(f"{phase.name}/").removesuffix(f"/{unit}")
            if tag == phase.tag(name, unit):
                chart = name if unit == "epochs" else f"{name} within epochs"  # whose steps count something else
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
                    "Charts names tags that nothing logs:",
                    *unknown,
                    f"There are: {', '.join(known)}. To fix, correct them, or name in also_logged those that a hook of "
                    "yours logs.",
                ]
            )
        )
