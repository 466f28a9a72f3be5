"""The classic recipe on solar cells, its statistics moving or held: what an opened stage costs. See lesson 04.

What is run, apart from how often (`lesson04`): the kept results depend on this file's text, not on the list of seeds.
"""

from dataclasses import replace

from tlcourse.backbones import attach_head, load_embedded
from tlcourse.data import load_task
from tlcourse.evaluation import evaluate
from tlcourse.strategies import last_stages
from tlcourse.training import train

__all__ = ["run_recipe"]


def run_recipe(norm: str, *, seed: int) -> dict[str, float]:
    """Train the last two stages at 1e-5 and the head at 1e-3: 500 solar cells at 64 px, four epochs without flips.

    Parameters
    ----------
    norm
        How batch normalisation behaves in the two stages: ``"train"``, statistics follow the batches, or ``"affine"``,
        statistics are held.
    seed
        Draws the splits, the labels, the head and the order of the batches.

    Returns
    -------
    dict
        ``auc`` on the test split, which is opened once.

    Raises
    ------
    ValueError
        If there is no such behaviour.
    """
    task = load_task("solar", labels=500, seed=seed, size=64)
    model = attach_head(load_embedded("efficientnet_lite0"), task, seed=seed)
    plan = last_stages(model, 2, lr=1e-5, head_lr=1e-3, decay=1e-4)
    rules = tuple(replace(rule, norm=norm) if rule.lr == 1e-5 else rule for rule in plan.rules)
    train(model, task, replace(plan, rules=rules), epochs=4, seed=seed, progress=False)
    return {"auc": evaluate(model, task.test)["auc"]}
