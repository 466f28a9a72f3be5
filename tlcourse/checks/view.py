"""How a verdict is shown: a framed box with a button for hints where somebody watches, else the same words as text."""

import html

from tlcourse.checks.spec import find
from tlcourse.figures import in_ipython
from tlcourse.runtime import show_progress

__all__ = ["show", "verdict_box"]

# The colour is never alone: the first line says the same.
EDGES = {"passed": "#3f90da", "not started": "#94a4a2"}
OTHERWISE = "#bd1f01"


def show(verdict, text: str) -> None:
    """Show the verdict's words: in a box with a hint button in a live notebook, on stdout elsewhere."""
    if in_ipython() and show_progress():
        from tlcourse.views import display_widget

        display_widget(verdict_box(verdict, text), text)
    else:
        print(text)


def verdict_box(verdict, text: str):
    """The box: the words with a coloured edge, and the hints that were asked for below them."""
    import ipywidgets

    from tlcourse.checks.selfcheck import next_hint

    edge = EDGES.get(verdict.state, OTHERWISE)
    words, opened = ipywidgets.HTML(_preformatted(text, edge)), ipywidgets.HTML()
    if verdict.passed:
        return ipywidgets.VBox([words])
    button = ipywidgets.Button(description="Hint", tooltip=f"the next hint of {verdict.task}")
    said: list[str] = []

    def open_next(_) -> None:
        said.append(next_hint(find(verdict.task)))
        opened.value = "".join(_preformatted(line, EDGES["not started"]) for line in said)
        button.disabled = len(said) == 3

    button.on_click(open_next)
    return ipywidgets.VBox([words, button, opened])


def _preformatted(text: str, edge: str) -> str:
    style = f"border-left: 5px solid {edge}; padding-left: 10px; white-space: pre-wrap; line-height: 1.35"
    return f'<pre style="{style}">{html.escape(text)}</pre>'
