"""What all views share: a picture that says what it shows, controls around it, and what stands in where nobody watches.

A view belongs to a plain state object, which draws itself (``picture``) and says in words what is drawn (``alt``), and
which works without any front end. `widgets`, `explorers` and `feature_browser` are made of these parts.
"""

import html
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets
from traitlets import Unicode

from tlcourse.figures import in_ipython
from tlcourse.runtime import show_progress

__all__ = ["Picture", "State", "controlled", "display_static", "display_widget", "framed", "show_view"]


class Picture(ipywidgets.Image):
    """An image whose tooltip says what is drawn; it has no alternative text of its own.

    The view of ipywidgets 8 looks for a description before it sets a tooltip, and fails where there is none.
    """

    description = Unicode("").tag(sync=True)
    tooltip = Unicode("").tag(sync=True)


class State(ABC):
    """Named choices that draw themselves, and tell their views when one has changed."""

    def __init__(self) -> None:
        self._watchers: list[Callable[[], object]] = []

    @abstractmethod
    def picture(self) -> bytes:
        """PNG of the state as it is now."""

    @abstractmethod
    def alt(self) -> str:
        """The same in words."""

    @abstractmethod
    def choose(self, **choices: Any) -> None:
        """Set attributes by name."""

    def watch(self, callback: Callable[[], object]) -> None:
        """Call this whenever a choice has changed."""
        self._watchers.append(callback)

    def _set(self, **choices: Any) -> None:
        if any(getattr(self, name) != value for name, value in choices.items()):
            vars(self).update(choices)
            for callback in self._watchers:
                callback()


def controlled(
    state: State,
    controls: Mapping[str, ipywidgets.Widget],
    *,
    size: tuple[int, int],
    refresh: Callable[[], None] = lambda: None,
) -> ipywidgets.VBox:
    """A row of controls above the state's picture, and its words below: whichever changes, the others follow.

    Parameters
    ----------
    controls
        Name of an attribute of the state -> the control whose value it is.
    size
        Width and height of the picture in pixels: fixed, so that nothing below it jumps.
    refresh
        Called before the controls take the state's values, where what they offer depends on it.
    """
    image, status = Picture(format="png", width=size[0], height=size[1]), ipywidgets.HTML()
    following = False  # while a control takes the state's value, it has nothing to tell the state

    def redraw() -> None:
        nonlocal following
        following = True
        try:
            refresh()
            for name, control in controls.items():
                control.value = getattr(state, name)
        finally:
            following = False
        words = state.alt()
        image.value, image.tooltip, status.value = state.picture(), words, html.escape(words)

    def obey(name: str) -> Callable[[dict], None]:
        return lambda change: None if following else state.choose(**{name: change["new"]})

    for name, control in controls.items():
        control.observe(obey(name), "value")
    status.layout.max_width = f"{size[0]}px"
    state.watch(redraw)
    redraw()
    return framed(ipywidgets.HBox(list(controls.values())), image, status)


def show_view(state: State, box: Callable[[], ipywidgets.Widget], *, text: str) -> None:
    """Show the box where somebody watches, else the picture over a text that is the same in every run."""
    if in_ipython() and show_progress():
        display_widget(box(), text)
    elif in_ipython():
        display_static(state.picture(), text, alt=state.alt())
    else:
        print(text)


def framed(*rows: ipywidgets.Widget) -> ipywidgets.VBox:
    """Rows in a thin frame."""
    return ipywidgets.VBox(
        rows, layout=ipywidgets.Layout(border="1px solid #c3c6cc", padding="10px", width="fit-content")
    )


def display_widget(widget: ipywidgets.Widget, text: str) -> None:
    """Show a widget; the text is what remains of it in a file that is saved."""
    from IPython.display import display

    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    display({"application/vnd.jupyter.widget-view+json": view, "text/plain": text}, raw=True)


def display_static(picture: bytes, text: str, *, alt: str, handle: Any = None) -> Any:
    """Show a PNG with its alternative text, in the place of an earlier one where its handle is given.

    Returns
    -------
    The handle of what is displayed; None where there is no IPython, where the text is printed.
    """
    if not in_ipython():
        print(text)
        return None
    from IPython.display import display

    bundle, metadata = {"image/png": picture, "text/plain": text}, {"image/png": {"alt": alt}}
    if handle is not None:
        return handle.update(bundle, metadata=metadata, raw=True)
    return display(bundle, metadata=metadata, raw=True, display_id=True)
