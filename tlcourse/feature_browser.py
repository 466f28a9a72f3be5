"""The feature browser: choose a stage and a unit, see what excites it. Lesson 02 shows it.

A view over a plain state object, as in `explorers`: it works without any front end, and where nobody watches one
picture stands in for it.
"""

from collections.abc import Mapping
from typing import Any

import ipywidgets
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from tlcourse.backbones import Backbone, Model
from tlcourse.caching import extract_features
from tlcourse.diagrams import unit_page
from tlcourse.figures import png
from tlcourse.hierarchy import Pooling, check_channel, mean_pool, stage_features, stage_number
from tlcourse.views import State, controlled, show_view

__all__ = ["FeatureBrowser", "browse_features", "collect_features"]

Unit = Mapping[str, Any]


class FeatureBrowser(State):
    """Units of several stages, and what excites them. `browse_features` makes and shows it.

    Attributes
    ----------
    stage, unit
        What is shown: keys of ``stages`` and of ``stages[stage]``.
    """

    def __init__(self, stages: Mapping[str, Mapping[Any, Unit]], *, licence: str | None = None) -> None:
        super().__init__()
        if not stages:
            raise ValueError("there is no stage to browse: give a mapping, such as collect_features returns")
        for name, units in stages.items():
            if not units:
                raise ValueError(f"stage {name!r} has no units")
            for unit, found in units.items():
                _check(found, f"stage {name!r}, unit {unit!r}")
        self.stages = {name: dict(units) for name, units in stages.items()}
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
        width, height = self._page().get_size_inches()
        return int(100 * width), int(100 * height)

    def alt(self) -> str:
        """What is drawn, in words."""
        found = self.stages[self.stage][self.unit]
        where = ", with its map of each below" if found.get("maps") is not None else ""
        return (
            f"Stage {self.stage}, unit {self.unit}: the picture made for it by optimisation, and the "
            f"{len(found['top'])} inputs that excite it most{where}."
        )

    def picture(self) -> bytes:
        """PNG in 128 colours, of the same size for all units."""
        return png(self._page(), colours=128)

    def _page(self) -> Figure:
        units = [found for stage in self.stages.values() for found in stage.values()]
        return unit_page(
            self.stages[self.stage][self.unit],
            title=f"stage {self.stage}, unit {self.unit}",
            columns=max(len(found["top"]) for found in units),
            with_maps=any(found.get("maps") is not None for found in units),
            licence=self.licence,
        )


def browse_features(
    stages: Mapping[str, Mapping[Any, Unit]],
    *,
    licence: str | None = None,
    stage: str | None = None,
    unit: Any = None,
) -> FeatureBrowser:
    """Show what excites the units of a network, one unit at a time, and return the state.

    Parameters
    ----------
    stages
        Stage -> unit -> what there is of it, as `collect_features` returns: ``"visualisation"`` (3, h, w), float in
        0..1; ``"top"`` (k, 3, h, w), uint8; and, if you like, ``"maps"`` (k, h, w).
    licence
        Of what is shown; needed wherever solar cells or photographs are.
    stage, unit
        What is shown first; default: the first of each.

    Raises
    ------
    ValueError
        If there is nothing to browse, or something is of another shape.
    KeyError
        If there is no such stage or unit.

    Examples
    --------
    >>> unit = {"visualisation": np.zeros((3, 8, 8)), "top": np.zeros((2, 3, 8, 8), dtype=np.uint8)}
    >>> browser = browse_features({"stem": {0: unit, 3: unit}, "neck": {7: unit}})
    Feature browser: units of stem, neck
    >>> browser.choose(unit=3)
    >>> browser.alt()
    'Stage stem, unit 3: the picture made for it by optimisation, and the 2 inputs that excite it most.'
    """
    state = FeatureBrowser(stages, licence=licence)
    state.choose(stage=stage, unit=unit)

    def box() -> ipywidgets.Widget:
        controls = {name: ipywidgets.Dropdown(description=name) for name in ("stage", "unit")}
        controls["stage"].options = list(state.stages)

        def refresh() -> None:
            controls["unit"].options = list(state.stages[state.stage])

        return controlled(state, controls, size=state.size, refresh=refresh)

    show_view(state, box, text=f"Feature browser: units of {', '.join(state.stages)}")
    return state


def collect_features(
    network: Backbone | Model,
    inputs: Tensor,
    visualisations: Mapping[str, Mapping[int, Tensor]],
    *,
    count: int = 5,
    pool: Pooling = mean_pool,
) -> dict[str, dict[int, dict[str, Tensor]]]:
    """What `browse_features` shows: for each unit its picture, the inputs that excite it most, and its maps of them.

    Parameters
    ----------
    inputs
        uint8 images (n, 1 or 3, H, W), among which to look.
    visualisations
        Stage -> channel -> the picture made for it (3, h, w), see `visualise`.
    count
        How many inputs a unit.
    pool
        What "excite" means: `mean_pool`, all over the image, or `max_pool`, at its best place. (Given the same one,
        `hierarchy.top_inputs` finds the same inputs, for one unit at a time.)

    Raises
    ------
    ValueError
        If there is no such stage or channel, or ``count`` is not in 1..n.

    Examples
    --------
    >>> import torch
    >>> from tlcourse import load_backbone
    >>> images = torch.randint(0, 256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    >>> backbone = load_backbone("efficientnet_lite0", pretrained=False)
    >>> units = collect_features(backbone, images, {"block2": {5: torch.zeros(3, 8, 8)}}, count=2)
    >>> {name: tuple(values.shape) for name, values in units["block2"][5].items()}
    {'visualisation': (3, 8, 8), 'top': (2, 3, 32, 32), 'maps': (2, 8, 8)}
    """
    if not 1 <= count <= len(inputs):
        raise ValueError(f"count={count}: there are {len(inputs)} inputs")
    stops = {stage: stage_number(network, stage) + 1 for stage in visualisations}
    features = stage_features(network, inputs, pool=pool)
    collected: dict[str, dict[int, dict[str, Tensor]]] = {}
    for stage, pictures in visualisations.items():
        collected[stage] = {}
        for channel, picture in pictures.items():
            check_channel(channel, features[stage].shape[1], stage)
            top = inputs[
                features[stage][:, channel].sort(descending=True, stable=True).indices[:count].to(inputs.device)
            ]
            found = {"visualisation": picture, "top": top.expand(-1, 3, -1, -1)}
            maps = extract_features(network, top, stop=stops[stage])[:, channel].to(inputs.device)
            if maps.dim() == 3:
                found["maps"] = maps
            collected[stage][channel] = found
    return collected


def _check(found: Unit, where: str) -> None:
    for name, axes, colours in (("visualisation", 3, 0), ("top", 4, 1), ("maps", 3, None)):
        if name == "maps" and found.get(name) is None:
            continue
        shape = tuple(np.shape(found.get(name, ())))
        wrong = len(shape) != axes or 0 in shape or (colours is not None and shape[colours] != 3)
        if wrong or (name == "maps" and shape[0] != len(found["top"])):
            raise ValueError(
                f"{where}: need visualisation (3, h, w), top (k, 3, h, w) and, if any, maps (k, h, w); "
                f"{name} is {shape}"
            )
