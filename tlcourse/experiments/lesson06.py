"""Lesson 06: the strategies again on news topics, their labels and their rates: which points are kept."""

from tlcourse.experiments.texts import EPOCHS, run_text
from tlcourse.results import Experiment

__all__ = ["NEWS", "RATES", "USUAL_RATE"]

USUAL_RATE = 5e-5  # the highest that Devlin et al. 2019 tried on BERT
RATES = (2e-5, USUAL_RATE, 2e-4, 1e-3)

NEWS = Experiment(
    "news",
    run_text,
    settings=(
        *({"strategy": "full fine-tuning", "labels": labels, "lr": USUAL_RATE} for labels in EPOCHS),
        *({"strategy": "full fine-tuning", "labels": 100, "lr": lr} for lr in RATES if lr != USUAL_RATE),
        {"strategy": "feature extraction", "labels": 100, "lr": None},
        {"strategy": "last stages", "labels": 100, "lr": USUAL_RATE},
        {"strategy": "discriminative", "labels": 100, "lr": None},
        {"strategy": "gradual unfreezing", "labels": 100, "lr": None},
    ),
    seeds=tuple(range(10)),
    data=("news", "minilm"),
)
