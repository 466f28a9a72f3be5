"""Explorers: what a plan freezes and costs, what each unit sees, and when a schedule moves which stage.

Each is a view over a plain state object, which can be used and drawn without any front end; where nobody watches, one
picture stands in for the view (see `views`). Lesson 02 browses features, lessons 03 to 05 explore plans.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from itertools import accumulate
from numbers import Integral
from typing import Any

import ipywidgets
import numpy as np
from torch import Tensor

from tlcourse.backbones import Backbone, Model
from tlcourse.caching import extract_features
from tlcourse.diagrams import PLAN_SIZE, TIMELINE_SIZE, compact, in_megabytes, plan_diagram, rate_timeline, unit_page
from tlcourse.figures import png
from tlcourse.hierarchy import check_channel, max_pool, stage_features, stage_number
from tlcourse.masked import Masked
from tlcourse.memory import TrainingMemory, training_memory
from tlcourse.plans import Plan, Schedule, apply_plan, describe_plan, parameter_groups
from tlcourse.rates import slanted_triangular, warmup_cosine
from tlcourse.views import controlled, show_view

__all__ = [
    "FeatureBrowser",
    "PlanExplorer",
    "UnfreezingTimeline",
    "browse_features",
    "collect_features",
    "explore_plans",
    "unfreezing_timeline",
]

NONE = "none"


class _Watched:
    """A state with named choices, which tells its views when one has changed."""

    def __init__(self) -> None:
        self._watchers: list[Callable[[], object]] = []

    def watch(self, callback: Callable[[], object]) -> None:
        """Call this whenever a choice has changed."""
        self._watchers.append(callback)

    def _set(self, **choices: Any) -> None:
        if any(getattr(self, name) != value for name, value in choices.items()):
            vars(self).update(choices)
            for callback in self._watchers:
                callback()


class PlanExplorer(_Watched):
    """Plans for one model: what each freezes, stage by stage, and what it costs. `explore_plans` makes and shows it.

    Attributes
    ----------
    plan, other
        The names of the plan that is shown, and of the one that it is compared with, or ``"none"``.
    rows
        Name -> what `describe_plan` says of the plan, with the costs of the backward pass.
    memory
        Name -> `memory.TrainingMemory`.
    """

    def __init__(
        self, model: Model, plans: Mapping[str, Plan], *, example: Tensor | Masked, batch_size: int = 32
    ) -> None:
        super().__init__()
        if not plans:
            raise ValueError("there is no plan to explore: give a mapping of names to plans")
        for name, plan in plans.items():
            if not isinstance(plan, Plan):
                raise TypeError(f"{name!r} is no Plan but {type(plan).__name__}; for a schedule: unfreezing_timeline")
        if NONE in plans:
            raise ValueError(f"a plan cannot be called {NONE!r}: that stands for no second plan")
        self.batch_size, self.plan, self.other = batch_size, next(iter(plans)), NONE
        self.rows = {name: describe_plan(model, plan, example=example[:1]) for name, plan in plans.items()}
        self.memory: dict[str, TrainingMemory] = {
            name: training_memory(model, plan, example, batch_size=batch_size) for name, plan in plans.items()
        }

    def choose(self, *, plan: str | None = None, other: str | None = None) -> None:
        """Show a plan, and compare it with another one or with ``"none"``.

        Raises
        ------
        KeyError
            If there is no plan of that name.
        """
        for name in (plan, other):
            if name not in (None, *self.rows) and not (name == NONE and name is other):
                raise KeyError(f"no plan {name!r}; there are: {', '.join(self.rows)}")
        self._set(plan=plan or self.plan, other=other or self.other)

    def alt(self) -> str:
        """What is drawn, in words."""
        return " Compared with ".join(self._words(name) for name in self._shown())

    def picture(self) -> bytes:
        """PNG of 900 x 500 pixels."""
        rates = [rate for rows in self.rows.values() for row in rows for rate in row["lr"] if rate > 0]
        shown = self._shown()
        return png(
            plan_diagram(
                {name: self.rows[name] for name in shown},
                {name: self.memory[name] for name in shown},
                rates=(min(rates, default=1e-4), max(rates, default=1e-3)),
                most=max(held.total for held in self.memory.values()),
            )
        )

    def _shown(self) -> list[str]:
        return [self.plan] if self.other in (NONE, self.plan) else [self.plan, self.other]

    def _words(self, name: str) -> str:
        rows, held = self.rows[name], self.memory[name]
        moving, total = (sum(row[key] for row in rows) for key in ("trainable", "parameters"))
        parts = ", ".join(
            f"{part} {in_megabytes(getattr(held, part))}"
            for part in ("weights", "gradients", "optimiser", "activations")
        )
        still = ", ".join(row["stage"] for row in rows if row["frozen"] and row["parameters"]) or "nothing"
        return (
            f"{name}: {moving:,} of {total:,} parameters move; frozen: {still}. A training step with "
            f"{self.batch_size} samples holds {in_megabytes(held.total)} ({parts}); its backward pass costs "
            f"{100 * sum(row['backward'] for row in rows):.3g} % of that of full fine-tuning."
        )


def explore_plans(
    model: Model, plans: Mapping[str, Plan], *, example: Tensor | Masked, batch_size: int = 32
) -> PlanExplorer:
    """Show plans for a model, one at a time or two beside each other, and return the state.

    A block is a stage, from the input on the left to the head; the wider it is, the more parameters it has. It is filled
    as far as they move, in the colour of the rate, and hatched where it is frozen. Below stand the rate in digits, the
    stage's share of the backward pass, and the memory of a training step. The model stays as it is.

    Parameters
    ----------
    plans
        Name -> `Plan`.
    example
        Raw inputs, such as ``task.train.inputs[:1]``; memory and costs are measured with them.
    batch_size
        Of a training step, for its memory.

    Raises
    ------
    ValueError
        If there is no plan, or one does not fit the model.
    TypeError
        If something else than a `Plan` is given.

    Examples
    --------
    >>> from tlcourse import attach_head, feature_extraction, full_fine_tune, load_backbone, load_task
    >>> task = load_task("digits8", labels=20)
    >>> model = attach_head(load_backbone("efficientnet_lite0", pretrained=False), task)
    >>> plans = {"head only": feature_extraction(model), "all": full_fine_tune(model)}
    >>> explorer = explore_plans(model, plans, example=task.train.inputs[:1], batch_size=8)
    Freeze explorer: what each of these plans moves and costs: head only, all
    >>> explorer.choose(plan="all")
    >>> explorer.picture()[1:4]
    b'PNG'
    """
    state = PlanExplorer(model, plans, example=example, batch_size=batch_size)

    def box() -> ipywidgets.Widget:
        names = list(state.rows)
        controls = {
            "plan": ipywidgets.Dropdown(options=names, value=state.plan, description="plan"),
            "other": ipywidgets.Dropdown(options=[NONE, *names], value=state.other, description="compare with"),
        }
        controls["other"].style.description_width = "initial"
        return controlled(state, controls, size=PLAN_SIZE)

    names = ", ".join(state.rows)
    show_view(state, box, text=f"Freeze explorer: what each of these plans moves and costs: {names}")
    return state


class FeatureBrowser(_Watched):
    """Units of several stages, and what excites them. `browse_features` makes and shows it.

    Attributes
    ----------
    stage, unit
        What is shown: keys of ``stages`` and of ``stages[stage]``.
    """

    def __init__(
        self, stages: Mapping[str, Mapping[Any, Mapping[str, Any]]], *, licence: str | None = None
    ) -> None:
        super().__init__()
        if not stages or not all(stages.values()):
            empty = next((name for name, units in stages.items() if not units), None)
            raise ValueError("there is no stage to browse" if empty is None else f"stage {empty!r} has no units")
        self.stages = {
            stage: {unit: _checked(found, f"stage {stage!r}, unit {unit!r}") for unit, found in units.items()}
            for stage, units in stages.items()
        }
        self.licence, self.stage = licence, next(iter(stages))
        self.unit = next(iter(self.stages[self.stage]))

    def choose(self, *, stage: str | None = None, unit: Any = None) -> None:
        """Show a unit; where only a stage is given, the one in the same place as the one before, or the last.

        Raises
        ------
        KeyError
            If there is no such stage or unit.
        """
        stage = self.stage if stage is None else stage
        if stage not in self.stages:
            raise KeyError(f"no stage {stage!r}; there are: {', '.join(self.stages)}")
        units = list(self.stages[stage])
        if unit is None:
            unit = units[min(list(self.stages[self.stage]).index(self.unit), len(units) - 1)]
        elif unit not in units:
            raise KeyError(f"stage {stage!r} has no unit {unit!r} here; there are: {', '.join(map(str, units))}")
        self._set(stage=stage, unit=unit)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of every picture, in pixels."""
        return tuple(int(100 * inches) for inches in self._page().get_size_inches())

    def alt(self) -> str:
        """What is drawn, in words."""
        found = self.stages[self.stage][self.unit]
        where = ", with its map of each below" if "maps" in found else ""
        return (
            f"Stage {self.stage}, unit {self.unit}: the picture made for it by optimisation, and the "
            f"{len(found['top'])} inputs that excite it most{where}."
        )

    def picture(self) -> bytes:
        """PNG in 128 colours, of the same size for all units."""
        return png(self._page(), colours=128)

    def _page(self):
        units = [found for stage in self.stages.values() for found in stage.values()]
        return unit_page(
            self.stages[self.stage][self.unit],
            title=f"stage {self.stage}, unit {self.unit}",
            columns=max(len(found["top"]) for found in units),
            with_maps=any("maps" in found for found in units),
            licence=self.licence,
        )
