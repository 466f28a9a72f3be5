"""What a remedy against forgetting keeps and costs (lesson 09), and which weights matter to which class (lesson 10).

Each is a view over a plain state object, as in `explorers`: it works without any front end, and where nobody watches
one picture stands in for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
import numpy as np
from numpy.typing import ArrayLike

from tlcourse.figures import interval_in_words, png
from tlcourse.intervals import Scores
from tlcourse.panels import (
    MAPS_SIZE,
    PLAIN,
    TRADE_OFF_SIZE,
    Point,
    class_maps,
    place_of_largest,
    remedy_looks,
    trade_off,
)
from tlcourse.views import State, controlled, show_view

__all__ = ["FisherBrowser", "ForgettingCockpit", "fisher_browser", "forgetting_cockpit"]

ALL = "all"


class ForgettingCockpit(State):
    """Remedies against forgetting, each in several settings, old task against new. `forgetting_cockpit` shows it.

    Attributes
    ----------
    remedy, setting
        What is chosen: keys of ``points`` and of ``points[remedy]``.
    differences
        Remedy -> setting -> the scores less those of the first setting of ``"plain"``, paired by seed: on the old task
        and on the new one, None where the seeds do not pair. Empty where there is no ``"plain"``.
    """

    def __init__(
        self,
        points: Mapping[str, Mapping[str, Point]],
        *,
        old: str,
        new: str,
        start: Scores | None = None,
    ) -> None:
        super().__init__()
        if not points:
            raise ValueError("there is no remedy to choose: give a mapping of names to settings")
        for remedy, settings in points.items():
            if not isinstance(settings, Mapping):
                raise TypeError(f"{remedy!r}: a mapping of settings is needed, not {type(settings).__name__}")
            if not settings:
                raise ValueError(f"{remedy!r} has no setting")
            for setting, point in settings.items():
                if not (
                    isinstance(point, tuple) and len(point) == 2 and all(isinstance(each, Scores) for each in point)
                ):
                    raise TypeError(
                        f"{remedy!r}, {setting!r}: (Scores on the old task, Scores on the new one) are needed"
                    )
        if start is not None and not isinstance(start, Scores):
            raise TypeError(f"start is {type(start).__name__}; Scores on the old task, or None, are needed")
        remedy_looks(points)  # refuses more remedies than can be told apart
        self.points = {remedy: dict(settings) for remedy, settings in points.items()}
        self.old, self.new, self.start = old, new, start
        self.remedy = next(iter(points))
        self.setting = next(iter(self.points[self.remedy]))
        self.differences = _against_plain(self.points)

    def choose(self, *, remedy: str | None = None, setting: str | None = None) -> None:
        """Show a setting; where only a remedy is given, its setting in the same place as the one before, or the last.

        Raises
        ------
        KeyError
            If there is no such remedy, or it has no such setting.
        """
        remedy = self.remedy if remedy is None else remedy
        if remedy not in self.points:
            raise KeyError(f"no remedy {remedy!r}; there are: {', '.join(self.points)}")
        settings = list(self.points[remedy])
        if setting is None:
            setting = settings[min(list(self.points[self.remedy]).index(self.setting), len(settings) - 1)]
        elif setting not in settings:
            raise KeyError(f"{remedy!r} has no setting {setting!r}; there are: {', '.join(map(str, settings))}")
        self._set(remedy=remedy, setting=setting)

    def alt(self) -> str:
        """What is drawn, in words, with 95 % intervals in brackets."""
        names = (self.old, self.new)
        measured = zip(names, self.points[self.remedy][self.setting], strict=True)
        words = f"{self.remedy}, {self.setting}: " + "; ".join(f"{name} {_words(each)}" for name, each in measured)
        pair = self.differences.get(self.remedy, {}).get(self.setting)
        if pair is not None:
            against = f"{PLAIN}, {next(iter(self.points[PLAIN]))}"
            apart = (f"{name} {_apart(each)}" for name, each in zip(names, pair, strict=True))
            words += f". Less {against}, seed by seed: {'; '.join(apart)}"
        if self.start is not None:
            words += f". Before the new task: {self.old} {_words(self.start)}"
        return words + "."

    def picture(self) -> bytes:
        """PNG of 900 x 520 pixels."""
        chosen, names = (self.remedy, self.setting), {"old": self.old, "new": self.new}
        return png(trade_off(self.points, self.differences, chosen=chosen, **names, start=self.start))


def forgetting_cockpit(
    points: Mapping[str, Mapping[str, Point]],
    *,
    old: str,
    new: str,
    start: Scores | None = None,
    remedy: str | None = None,
    setting: str | None = None,
) -> ForgettingCockpit:
    """Show what each setting of each remedy keeps of the old task and reaches on the new one, and return the state.

    The chosen setting is large, with its 95 % intervals both ways; the other settings of its remedy are joined to it in
    the order given; all others are faint. A remedy has the colour that `plots.frontier` gives it among the same ones
    without ``"plain"``, which is a star. Where there is a ``"plain"``, the difference to it is drawn and told.

    Parameters
    ----------
    points
        Remedy -> setting, such as "strength 100" -> (scores on the old task, scores on the new one). The first setting
        of ``"plain"`` is what the others are compared with.
    old, new
        The names of the axes, with units.
    start
        The old task before the new one: a dotted line.
    remedy, setting
        What is chosen first; default: the first of each.

    Raises
    ------
    ValueError
        If there is nothing to choose, or there are too many remedies to tell apart.
    KeyError
        If there is no such remedy or setting.
    TypeError
        If something else than mappings of pairs of `Scores` is given.

    Examples
    --------
    >>> plain = Scores((0.60, 0.70), seeds=(0, 1)), Scores((0.80, 0.90), seeds=(0, 1))
    >>> held = Scores((0.70, 0.80), seeds=(0, 1)), Scores((0.80, 0.90), seeds=(0, 1))
    >>> points = {"plain": {"rate 2e-4": plain}, "L2-SP": {"strength 1": plain, "strength 10": held}}
    >>> cockpit = forgetting_cockpit(points, old="news", new="tweets")
    Forgetting cockpit: news against tweets; plain, L2-SP
    >>> cockpit.choose(remedy="L2-SP", setting="strength 10")
    >>> cockpit.differences["L2-SP"]["strength 10"][0]
    Scores(0.1000 [0.1000, 0.1000], n = 2)
    """
    state = ForgettingCockpit(points, old=old, new=new, start=start)
    state.choose(remedy=remedy, setting=setting)

    def box() -> ipywidgets.Widget:
        controls = {name: ipywidgets.Dropdown(description=name) for name in ("remedy", "setting")}
        controls["remedy"].options = list(state.points)

        def refresh() -> None:
            controls["setting"].options = list(state.points[state.remedy])

        return controlled(state, controls, size=TRADE_OFF_SIZE, refresh=refresh)

    show_view(state, box, text=f"Forgetting cockpit: {old} against {new}; {', '.join(state.points)}")
    return state


class FisherBrowser(State):
    """Maps over pixels, of several kinds and of each class. `fisher_browser` makes and shows it.

    Attributes
    ----------
    kind, shown
        What is chosen: a key of ``maps``; the name of a class, or ``"all"`` for the mean over them.
    maps
        Kind -> float64 (classes, H, W).
    """

    def __init__(self, maps: Mapping[str, ArrayLike], *, classes: Sequence[Any], title: str | None = None) -> None:
        super().__init__()
        if not maps:
            raise ValueError("there is no map to browse: give a mapping of kinds to maps")
        self.classes = [str(name) for name in classes]
        if ALL in self.classes:
            raise ValueError(f"a class cannot be called {ALL!r}: that stands for the mean over all")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes repeat: {', '.join(self.classes)}")
        self.maps = {kind: np.asarray(values, dtype=float) for kind, values in maps.items()}
        first, like = next(iter(self.maps.items()))
        for kind, values in self.maps.items():
            if values.ndim != 3 or not values.size:
                raise ValueError(f"{kind!r} is {values.shape}; (classes, H, W) is needed")
            if len(values) != len(self.classes):
                raise ValueError(f"{kind!r} has {len(values)} maps, but there are {len(self.classes)} classes")
            if values.shape != like.shape:
                raise ValueError(f"{kind!r} is {values.shape}, but {first!r} is {like.shape}: all need the same shape")
            for name, values_of_it in zip(self.classes, values, strict=True):
                if not np.isfinite(values_of_it).all():
                    raise ValueError(f"{kind!r}, class {name}: a value is not finite")
        self.title, self.kind, self.shown = title, first, ALL

    def choose(self, *, kind: str | None = None, shown: Any = None) -> None:
        """Show another kind, another class, or ``"all"``.

        Raises
        ------
        KeyError
            If there is no such kind or class.
        """
        kind, shown = self.kind if kind is None else kind, self.shown if shown is None else str(shown)
        if kind not in self.maps:
            raise KeyError(f"no kind {kind!r}; there are: {', '.join(self.maps)}")
        if shown not in (ALL, *self.classes):
            raise KeyError(f"no class {shown!r}; there are: {', '.join([ALL, *self.classes])}")
        self._set(kind=kind, shown=shown)

    def alt(self) -> str:
        """What is drawn, in words; rows and columns count from 0 at the upper left."""
        maps, words = self.maps[self.kind], [f"{self.title}: " if self.title else "", f"{self.kind}, "]
        scale = float(np.abs(maps).max())
        of_all = f"mean over {len(maps)} classes: {_extent(maps.mean(axis=0), scale)}"
        if self.shown == ALL:
            words += [of_all, f". Beside it each class: from {maps.min():.3g} to {maps.max():.3g}."]
        else:
            words += [
                f"class {self.shown}: {_extent(maps[self.classes.index(self.shown)], scale)}. Beside it the {of_all}."
            ]
        return "".join(words)

    def picture(self) -> bytes:
        """PNG of 900 x 430 pixels."""
        shown = None if self.shown == ALL else self.classes.index(self.shown)
        return png(
            class_maps(self.maps[self.kind], classes=self.classes, shown=shown, kind=self.kind, title=self.title)
        )


def fisher_browser(
    maps: Mapping[str, ArrayLike],
    *,
    classes: Sequence[Any],
    title: str | None = None,
    kind: str | None = None,
    shown: Any = None,
) -> FisherBrowser:
    """Show a number for each pixel and class, such as the Fisher information of its weight, and return the state.

    The map of a class stands beside the mean over all; that mean, where it is chosen, beside the maps of all classes.
    All maps of a kind have one scale, from 0, or centred on 0 where a value is negative. A frame marks the largest.

    Parameters
    ----------
    maps
        Kind, such as "exact" or "weights" -> (classes, H, W), of one shape for all kinds.
    classes
        Names of the classes.
    title
        What is shown; written above.
    kind, shown
        What is chosen first; default: the first kind, and ``"all"`` classes.

    Raises
    ------
    ValueError
        If there is no map, a map has another shape or a value that is not finite, or the names of the classes do not
        fit.
    KeyError
        If there is no such kind or class.

    Examples
    --------
    >>> exact = np.array([[[0.0, 0.2]], [[0.1, 0.0]]])
    >>> browser = fisher_browser({"exact": exact, "weights": exact - 0.1}, classes=["zero", "one"])
    Fisher browser: exact, weights of 2 classes
    >>> browser.choose(shown="zero")
    >>> browser.alt()
    'exact, class zero: from 0 to 0.2, largest at row 0, column 1. Beside it the mean over 2 classes: from 0.05 to 0.1,
    largest at row 0, column 1.'
    """
    state = FisherBrowser(maps, classes=classes, title=title)
    state.choose(kind=kind, shown=shown)

    def box() -> ipywidgets.Widget:
        controls = {
            "kind": ipywidgets.Dropdown(options=list(state.maps), value=state.kind, description="kind"),
            "shown": ipywidgets.Dropdown(options=[ALL, *state.classes], value=state.shown, description="class"),
        }
        return controlled(state, controls, size=MAPS_SIZE)

    show_view(state, box, text=f"Fisher browser: {', '.join(state.maps)} of {len(state.classes)} classes")
    return state


def _against_plain(points: Mapping[str, Mapping[str, Point]]) -> dict[str, dict[str, tuple[Scores | None, ...]]]:
    if PLAIN not in points:
        return {}
    first, reference = next(iter(points[PLAIN].items()))
    apart: dict[str, dict[str, tuple[Scores | None, ...]]] = {}
    for remedy, settings in points.items():
        for setting, point in settings.items():
            if (remedy, setting) != (PLAIN, first):
                apart.setdefault(remedy, {})[setting] = tuple(
                    mine - plain if set(mine.seeds) == set(plain.seeds) else None
                    for mine, plain in zip(point, reference, strict=True)
                )
    return apart


def _words(scores: Scores) -> str:
    if scores.n == 1:
        return f"{scores.mean:.3f}, a single seed"
    low, high = scores.interval()
    return f"{scores.mean:.3f} [{low:.3f}, {high:.3f}], n = {scores.n}"


def _apart(difference: Scores | None) -> str:
    if difference is None:
        return "not paired, as the seeds differ"
    return f"{difference.mean:+.3f}, a single seed" if difference.n == 1 else interval_in_words(difference)


def _extent(picture: np.ndarray, scale: float) -> str:
    place = place_of_largest(picture, scale=scale)
    if place is None:
        return f"{0 if abs(picture.flat[0]) <= 1e-9 * scale else picture.flat[0]:.3g} everywhere"
    low, high = picture.min(), picture.max()
    return f"from {low:.3g} to {high:.3g}, largest at row {place[0]}, column {place[1]}"
