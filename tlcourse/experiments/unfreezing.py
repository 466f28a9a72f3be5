"""ULMFiT's recipe taken apart on solar cells: when stages open, how their rates differ, how rates run. See lesson 05.

What is run, apart from how often (`lesson05`): the kept results depend on this file's text, not on the list of seeds.
"""

from tlcourse.backbones import Model, attach_head, load_embedded
from tlcourse.data import load_task, random_flips
from tlcourse.evaluation import evaluate
from tlcourse.plans import Schedule
from tlcourse.rates import slanted_triangular
from tlcourse.strategies import discriminative, gradual_unfreezing
from tlcourse.training import train

__all__ = ["FACTORS", "LABELS", "LR", "constant", "recipe", "run_recipe"]

LABELS = 200
LR = 1e-3
LAST_EPOCHS = 3  # once all ten stages are open; each before that is open for one epoch before the next joins
# The rate of a stage over that of the stage below. ULMFiT's authors had five groups of layers, so their rates span 2.6
# to the fourth. The third factor spans a little less, 2.6 cubed, over our ten stages.
FACTORS = {"one rate": 1.0, "2.6 a stage": 2.6, "2.6 cubed in all": 2.6 ** (3 / 9)}


def constant(step: int, total: int) -> float:
    """Rates that stay as the plan says."""
    return 1.0


def recipe(model: Model, opening: str, rates: str) -> Schedule:
    """The schedule of plans of a recipe: 12 epochs for a backbone of nine stages, however its stages open.

    Parameters
    ----------
    opening
        ``"gradual"``: the head, then one stage more an epoch; ``"at once"``: all stages from the first epoch on.
    rates
        A key of `FACTORS`.

    Raises
    ------
    KeyError
        If there is no such opening or no such rates.
    """
    factor = FACTORS[rates]
    gradual = gradual_unfreezing(model, lr=LR, factor=factor, last_epochs=LAST_EPOCHS)
    epochs = sum(epochs for _, epochs in gradual)
    return {"gradual": gradual, "at once": ((discriminative(model, lr=LR, factor=factor), epochs),)}[opening]


def run_recipe(opening: str, rates: str, schedule: str, *, seed: int) -> dict[str, float]:
    """Fine-tune on 200 solar cells at 64 px with flips for 12 epochs, and open the test split once.

    Parameters
    ----------
    opening, rates
        As in `recipe`.
    schedule
        ``"slanted triangular"`` or ``"constant"``: how all rates run over the steps.
    seed
        Draws the splits, the labels, the head and the order of the batches.

    Returns
    -------
    dict
        ``auc``, ``balanced_accuracy``, ``log_loss`` on the test split; ``train_auc``; ``best_val``: the lowest
        validation log-loss of any epoch; ``last_val``: that of the last one.
    """
    task = load_task("solar", labels=LABELS, seed=seed, size=64)
    model = attach_head(load_embedded("efficientnet_lite0"), task, seed=seed)
    factors = {"slanted triangular": slanted_triangular, "constant": constant}[schedule]
    history = train(
        model, task, recipe(model, opening, rates), rates=factors, seed=seed, augment=random_flips, progress=False
    )
    test = evaluate(model, task.test)
    losses = [scores["log_loss"] for scores in history.val]
    kept = {name: test[name] for name in ("auc", "balanced_accuracy", "log_loss")}
    learnt = evaluate(model, task.train)["auc"]
    return {**kept, "train_auc": learnt, "best_val": min(losses), "last_val": losses[-1]}
