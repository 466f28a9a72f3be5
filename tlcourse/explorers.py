"""Explorers of plans: what a plan freezes and costs (lesson 04), and when a schedule moves which stage (lesson 05).

Each is a view over a plain state object, which can be used and drawn without any front end; where nobody watches, one
picture stands in for the view (see `views`).
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from copy import deepcopy
from itertools import accumulate
from numbers import Integral

import ipywidgets
import numpy as np
from torch import Tensor

from tlcourse.backbones import Model
from tlcourse.diagrams import PLAN_SIZE, TIMELINE_SIZE, in_megabytes, plan_diagram, rate_timeline
from tlcourse.figures import png
from tlcourse.masked import Masked
from tlcourse.memory import TrainingMemory, training_memory
from tlcourse.plans import Plan, Schedule, apply_plan, describe_plan, parameter_groups
from tlcourse.rates import slanted_triangular, warmup_cosine
from tlcourse.views import State, controlled, show_view

__all__ = ["PlanExplorer", "UnfreezingTimeline", "explore_plans", "unfreezing_timeline"]

NONE, YOURS = "none", "your own"


class PlanExplorer(State):
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
        for name, more in ((plan, ()), (other, (NONE,))):
            if name not in (None, *self.rows, *more):
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
    model: Model,
    plans: Mapping[str, Plan],
    *,
    example: Tensor | Masked,
    batch_size: int = 32,
    plan: str | None = None,
    other: str = NONE,
) -> PlanExplorer:
    """Show plans for a model, one at a time or two beside each other, and return the state.

    A block is a stage, from the input on the left to the head; the wider it is, the more parameters it has. It is
    filled as far as they move, in the colour of the rate, and hatched where it is frozen. Below stand the rate in
    digits, the stage's share of the backward pass, and the memory of a training step. The model stays as it is.

    Parameters
    ----------
    plans
        Name -> `Plan`.
    example
        Raw inputs, such as ``task.train.inputs[:1]``; memory and costs are measured with them.
    batch_size
        Of a training step, for its memory.
    plan, other
        The names of the plan that is shown first, and of one to compare it with; default: the first plan alone.

    Raises
    ------
    ValueError
        If there is no plan, or one does not fit the model.
    KeyError
        If there is no plan of that name.
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
    state.choose(plan=plan, other=other)

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


class UnfreezingTimeline(State):
    """When a schedule moves which stage, and how fast. `unfreezing_timeline` makes and shows it.

    Attributes
    ----------
    step
        The step that is read out, from 0.
    curve
        The name of the function that gives the factor of the rates, a key of ``curves``.
    stages
        Their names, in the order of execution.
    phases
        The step at which each phase begins.
    total
        Steps of all phases together.
    """

    def __init__(
        self,
        model: Model,
        schedule: Schedule,
        *,
        steps_an_epoch: int,
        rates: Callable[[int, int], float] = slanted_triangular,
    ) -> None:
        super().__init__()
        if not isinstance(steps_an_epoch, Integral) or steps_an_epoch < 1:
            raise ValueError(f"steps_an_epoch={steps_an_epoch}: a whole number, at least 1, is needed")
        if not isinstance(schedule, tuple):
            raise TypeError(f"a schedule is needed, such as ((plan, epochs),), not {type(schedule).__name__}")
        if not schedule:
            raise ValueError("the schedule has no phase")
        for phase in schedule:
            if not (isinstance(phase, tuple) and len(phase) == 2 and isinstance(phase[0], Plan)):
                raise TypeError(f"each phase is a pair of a plan and how many epochs it holds, not {phase!r}")
            if not isinstance(phase[1], Integral) or phase[1] < 1:
                raise ValueError(
                    f"the phase {phase[0].name!r} has {phase[1]} epochs: a whole number from 1 on is needed"
                )
        self.steps_an_epoch = steps_an_epoch
        lengths = [epochs * steps_an_epoch for _, epochs in schedule]
        self.phases, self.total = list(accumulate(lengths[:-1], initial=0)), sum(lengths)
        self.plans = [plan.name for plan, _ in schedule]
        model = deepcopy(model)
        self._base = [_highest_rates(model, plan) for plan, _ in schedule]
        self.stages = list(model.stages)
        self.curves = {
            "slanted triangular": slanted_triangular,
            "warm-up and cosine": warmup_cosine,
            "constant": _constant,
        }
        known = [name for name, curve in self.curves.items() if curve is rates]
        self.curve = known[0] if known else YOURS
        self.curves[self.curve] = rates
        for name in self.curves:
            factors = self._factors(name)
            if not (np.isfinite(factors).all() and (factors >= 0).all()):
                raise ValueError(f"rates: the factors of {name} rates must be finite, and 0 or more, at every step")
        self.step = 0

    def choose(self, *, step: int | None = None, curve: str | None = None) -> None:
        """Read out another step, or draw another function of the rates.

        Raises
        ------
        ValueError
            If there is no such step.
        KeyError
            If there is no function of that name.
        """
        if step is not None:
            self._phase(step)
        if curve is not None and curve not in self.curves:
            raise KeyError(f"no rates {curve!r}; there are: {', '.join(self.curves)}")
        self._set(step=self.step if step is None else step, curve=curve or self.curve)

    def factor(self, step: int) -> float:
        """What all rates are multiplied by at a step."""
        return self.curves[self.curve](step, self.total)

    def rate(self, stage: str, step: int) -> float:
        """The highest rate in a stage at a step; 0 where it is frozen.

        Raises
        ------
        KeyError
            If there is no such stage.
        ValueError
            If there is no such step.
        """
        if stage not in self.stages:
            raise KeyError(f"no stage {stage!r}; there are: {', '.join(self.stages)}")
        rates, _ = self._base[self._phase(step)]
        return rates.get(stage, 0.0) * self.factor(step)

    def moving(self, step: int) -> int:
        """How many parameters the plan of that step moves."""
        return self._base[self._phase(step)][1]

    def alt(self) -> str:
        """What is drawn, in words."""
        rates = {stage: self.rate(stage, self.step) for stage in self.stages}
        phase = self._phase(self.step)
        still = [stage for stage in self.stages if stage not in self._base[phase][0]]
        epoch = self.step // self.steps_an_epoch + 1
        return (
            f"Step {self.step:,} of {self.total:,}, epoch {epoch}, phase {phase + 1} of {len(self.phases)} "
            f"({self.plans[phase]}), {self.curve} rates, factor {self.factor(self.step):.3f}: "
            f"{self.moving(self.step):,} parameters move, at most at {max(rates.values()):.2e}; "
            f"frozen: {', '.join(still) or 'nothing'}."
        )

    def picture(self) -> bytes:
        """PNG of 900 x 480 pixels."""
        factors = self._factors(self.curve)
        base = np.zeros((len(self.stages), self.total))
        for start, (rates, _) in zip(self.phases, self._base, strict=True):
            base[:, start:] = np.array([[rates.get(stage, 0.0)] for stage in self.stages])
        return png(
            rate_timeline(
                base * factors,
                factors,
                frozen=base == 0,
                stages=self.stages,
                phases=self.phases,
                steps_an_epoch=self.steps_an_epoch,
                step=self.step,
                title=f"{len(self.phases)} phases under {self.curve} rates",
            )
        )

    def _factors(self, curve: str) -> np.ndarray:
        return np.array([self.curves[curve](step, self.total) for step in range(self.total)], dtype=float)

    def _phase(self, step: int) -> int:
        if not isinstance(step, Integral) or not 0 <= step < self.total:
            raise ValueError(f"no step {step}: they run from 0 to {self.total - 1}")
        return bisect_right(self.phases, step) - 1


def unfreezing_timeline(
    model: Model,
    schedule: Schedule,
    *,
    steps_an_epoch: int,
    rates: Callable[[int, int], float] = slanted_triangular,
    step: int = 0,
) -> UnfreezingTimeline:
    """Show when a schedule moves which stage, and at which rate, and return the state.

    The stages stand above each other, the input's lowest; time runs to the right. The colour of a row is the rate, the
    line in it too, both on a logarithmic scale; it is hatched while the stage is frozen. The model stays as it is.

    Parameters
    ----------
    schedule
        As `train` takes it: pairs of a plan and the epochs that it holds, see `gradual_unfreezing`.
    steps_an_epoch
        Batches of the training samples: their number by the batch size, rounded up.
    rates
        The function that `train` is given; others can be chosen beside it.
    step
        The one that is read out first.

    Raises
    ------
    ValueError
        If the schedule is empty or does not fit the model, a number of epochs or of steps is not a whole one from 1 on,
        a factor of the rates is below 0 or not finite, or there is no such step.
    TypeError
        If the schedule is not a tuple of pairs of a plan and its epochs.

    Examples
    --------
    >>> from tlcourse import attach_head, gradual_unfreezing, load_backbone, load_task
    >>> task = load_task("digits8", labels=20)
    >>> model = attach_head(load_backbone("efficientnet_lite0", pretrained=False), task)
    >>> timeline = unfreezing_timeline(model, gradual_unfreezing(model), steps_an_epoch=5)
    Unfreezing timeline: 10 phases, 50 steps
    >>> timeline.rate("stem", 0), timeline.rate("head", 5) > 0
    (0.0, True)
    """
    state = UnfreezingTimeline(model, schedule, steps_an_epoch=steps_an_epoch, rates=rates)
    state.choose(step=step)

    def box() -> ipywidgets.Widget:
        wide = ipywidgets.Layout(width="420px")
        controls = {
            "step": ipywidgets.IntSlider(
                value=step, max=state.total - 1, description="step", continuous_update=False, layout=wide
            ),
            "curve": ipywidgets.Dropdown(options=list(state.curves), value=state.curve, description="rates"),
        }
        return controlled(state, controls, size=TIMELINE_SIZE)

    show_view(state, box, text=f"Unfreezing timeline: {len(state.phases)} phases, {state.total} steps")
    return state


def _constant(step: int, total: int) -> float:
    return 1.0


def _highest_rates(model: Model, plan: Plan) -> tuple[dict[str, float], int]:
    """Stage -> the highest rate in it, of those that move; and how many parameters move."""
    apply_plan(model, plan)
    rates: dict[str, float] = {}
    groups = parameter_groups(model, plan)
    for group in groups:
        rates[group["stage"]] = max(group["lr"], rates.get(group["stage"], 0.0))
    return rates, sum(parameter.numel() for group in groups for parameter in group["params"])
