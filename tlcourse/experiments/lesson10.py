"""Lesson 10: five digit tasks in three scenarios, the strength of EWC over decades, and EWC on texts."""

from tlcourse.experiments.digits_in_turn import run_digits
from tlcourse.experiments.held_texts import run_held_texts
from tlcourse.results import Experiment
from tlcourse.sequences import SCENARIOS

__all__ = ["DECADES", "HELD_TEXTS", "KINDS", "STRENGTHS", "THREE_SCENARIOS"]

KINDS = ("exact", "sampled", "empirical", "batched")
STRENGTHS = (1e2, 1e3, 1e4, 1e5, 1e6, 1e7)

# Protocol and strengths were looked for on seeds 100 to 109; none of these is among them.
THREE_SCENARIOS = Experiment(
    "three_scenarios",
    run_digits,
    settings=tuple(
        {"scenario": scenario, "remedy": remedy}
        for scenario in SCENARIOS
        for remedy in ("plain", "EWC", "replay", "joint")
    ),
    seeds=tuple(range(20)),
    data=("digits",),
)

DECADES = Experiment(
    "decades",
    run_digits,
    settings=tuple(
        {"scenario": "task", "remedy": "EWC", "strength": strength, "kind": kind}
        for kind in KINDS
        for strength in STRENGTHS
    ),
    seeds=tuple(range(10)),
    data=("digits",),
)

HELD_TEXTS = Experiment(
    "held_texts",
    run_held_texts,
    settings=({"remedy": "EWC", "value": 3e4}, {"remedy": "replay", "value": 50}),
    seeds=tuple(range(5)),
    data=("news", "sentiment", "minilm"),
)
