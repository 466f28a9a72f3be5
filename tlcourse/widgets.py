"""Views that a learner can touch: the prediction box (every lesson) and the training chart (from lesson 03 on).

Each is a view over a plain state object, which can be used, tested and saved without any front end. Where a build
executes a notebook (``TLCOURSE_PROGRESS=0``) nobody can move a slider, so a picture and a text that never change from
run to run stand in for the view.
"""

import html
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ipywidgets

from tlcourse.figures import in_ipython, number_line, png
from tlcourse.plots import training_curves
from tlcourse.runtime import show_progress
from tlcourse.views import Picture, display_static, display_widget, framed

__all__ = ["Prediction", "TrainingChart", "learner_dir", "predict"]


def learner_dir() -> Path:
    """Folder that keeps what the learner did: ``TLCOURSE_HOME``, else the user's data folder. Nothing is sent."""
    if os.environ.get("TLCOURSE_HOME"):
        return Path(os.environ["TLCOURSE_HOME"])
    import platformdirs

    return Path(platformdirs.user_data_dir("tlcourse"))


@dataclass
class Prediction:
    """A forecast that the learner commits before the experiment, and what was measured after it.

    Parameters
    ----------
    question
        What is asked.
    low, high, step, unit
        The range of answers, how finely they are chosen, and what they are counted in.
    key
        Its name on disk: small letters, digits, dots and hyphens. A committed forecast comes back in a later session,
        as long as the question is the same.

    Attributes
    ----------
    value
        The committed forecast, or None.
    measured, interval
        What `reveal` was given.

    Raises
    ------
    ValueError
        If the range is empty or the key is not of that form.

    Examples
    --------
    >>> import os, tempfile
    >>> os.environ["TLCOURSE_HOME"] = tempfile.mkdtemp()
    >>> prediction = Prediction("Which AUC?", 0.5, 1.0, 0.01, key="example")
    >>> prediction.commit(0.85)
    >>> prediction.reveal(0.872, (0.86, 0.884))
    Which AUC? You said 0.85; measured 0.872 [0.860, 0.884]: off by 0.022, outside the interval.
    """

    question: str
    low: float
    high: float
    step: float
    unit: str = ""
    key: str = ""
    value: float | None = field(default=None, init=False)
    measured: float | None = field(default=None, init=False)
    interval: tuple[float, float] | None = field(default=None, init=False)
    unsaved: str | None = field(default=None, init=False)  # why the forecast could not be written to disk
    _watchers: list[Callable[[], object]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if not (self.low < self.high and 0 < self.step <= self.high - self.low):
            raise ValueError(f"no answer lies between {self.low} and {self.high} in steps of {self.step}")
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", self.key):
            raise ValueError(
                f"key {self.key!r}: use small letters, digits, dots and hyphens, as in '01-scratch-at-200'"
            )
        if self._file.exists():
            self.value = self._restore()

    def commit(self, value: float) -> None:
        """Fix the forecast and keep it on disk.

        Raises
        ------
        ValueError
            If one is committed already, or the value lies outside the range.
        """
        if self.value is not None:
            raise ValueError(f"you committed {self._text(self.value)} already; reset() forgets it")
        if not self.low <= value <= self.high:
            raise ValueError(f"a forecast lies between {self.low:g} and {self.high:g}, not at {value}")
        self.value = float(value)
        try:
            self._save({"question": self.question, "value": self.value})
        except OSError as error:
            self.unsaved = f"{error.strerror or error} ({self._file})"
        self._changed()

    def reset(self) -> None:
        """Forget the forecast, here and on disk."""
        self.value = self.unsaved = None
        self._file.unlink(missing_ok=True)
        self._changed()

    def reveal(self, measured: float, interval: tuple[float, float] | None = None) -> None:
        """Say what was measured: the box is redrawn, and the comparison is shown below the present cell.

        Parameters
        ----------
        measured
            The result, in the unit of the forecast.
        interval
            Its 95 % interval, (low, high).
        """
        if not math.isfinite(measured):
            raise ValueError(f"there is nothing to compare with: the measured value is {measured}")
        self.measured, self.interval = float(measured), interval
        self._changed()
        # The digits of the measurement differ between processors: where nothing was committed, as in every build, they
        # are drawn and not written, so that the text can be compared.
        written = (
            self.verdict() if self.value is not None else "No forecast was committed; the picture shows the result."
        )
        display_static(self.picture(), f"{self.question} {written}", alt=f"{self.question} {self.verdict()}")

    def verdict(self) -> str:
        """The comparison in words."""
        said = "You committed no forecast" if self.value is None else f"You said {self._text(self.value)}"
        if self.measured is None:
            return f"{said}."
        shown = self._text(self.measured, finer=True)
        if self.interval is not None:
            low, high = (self._text(end, finer=True, unit=False) for end in self.interval)
            shown += f" [{low}, {high}]"
        if self.value is None:
            return f"{said}; measured {shown}."
        off = f"off by {self._text(abs(self.value - self.measured), finer=True)}"
        if self.interval is None:
            return f"{said}; measured {shown}: {off}."
        inside = self.interval[0] <= self.value <= self.interval[1]
        return f"{said}; measured {shown}: {off}, {'inside' if inside else 'outside'} the interval."

    def picture(self, candidate: float | None = None, *, titled: bool = True) -> bytes:
        """PNG of forecast and measurement on a line; a candidate is a forecast that is not committed yet."""
        ax = number_line(
            self.low,
            self.high,
            prediction=candidate if self.value is None else self.value,
            committed=self.value is not None,
            measured=self.measured,
            interval=self.interval,
            label=self.unit,
        )
        if titled and self.measured is not None:
            ax.set_title(self.verdict(), fontsize=10, loc="left")
        elif titled and self.value is None and candidate is None:
            ax.set_title("Your forecast goes here: run this cell, move the slider, commit.", fontsize=10, loc="left")
        return png(ax.figure)

    def watch(self, callback: Callable[[], object]) -> None:
        """Call this whenever the state has changed."""
        self._watchers.append(callback)

    @property
    def _file(self) -> Path:
        return learner_dir() / "predictions" / f"{self.key}.json"

    def _restore(self) -> float | None:
        try:
            kept = json.loads(self._file.read_text(encoding="utf-8"))
            question, value = kept["question"], float(kept["value"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"your kept forecast {self._file} cannot be read ({error}); delete that file") from error
        return value if question == self.question and self.low <= value <= self.high else None

    def _save(self, kept: dict[str, Any]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        half = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            half.write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")
            half.replace(self._file)
        finally:
            half.unlink(missing_ok=True)

    def _changed(self) -> None:
        for callback in self._watchers:
            callback()

    def _text(self, value: float, *, finer: bool = False, unit: bool = True) -> str:
        digits = max(0, math.ceil(-math.log10(self.step) - 1e-9))
        number = f"{value:,.{digits + (finer and digits > 0)}f}"
        return f"{number} {self.unit}" if unit and self.unit else number


def predict(
    question: str, *, low: float, high: float, step: float | None = None, unit: str = "", key: str
) -> Prediction:
    """Show a prediction box and return its state.

    The learner moves the slider and commits; from then on the box is locked, and figures draw the forecast. The
    parameters are those of `Prediction`; without a step there are a hundred.
    """
    prediction = Prediction(question, low, high, (high - low) / 100 if step is None else step, unit, key)
    span = f"from {prediction._text(low, unit=False)} to {prediction._text(high)}"
    state = "no forecast yet" if prediction.value is None else prediction.verdict()
    text = f"Prediction: {question} ({span}): {state}"
    if not in_ipython():
        print(text)
    elif show_progress():
        display_widget(_prediction_box(prediction), text)
    else:
        display_static(prediction.picture(), text, alt=f"An empty line of answers to: {question} ({span})")
    return prediction


@dataclass
class TrainingChart:
    """Loss and a validation metric, redrawn in place after each epoch: ``train(..., progress=TrainingChart("probe"))``.

    Parameters
    ----------
    title
        What is trained.
    metric
        The metric on the right, a key of `evaluate`'s result. The learner can choose another one once training is done:
        during it the kernel is busy and takes the choice afterwards.
    log_scale
        Draw the loss on a logarithmic axis.

    Attributes
    ----------
    history
        What was drawn last, or None.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> chart = TrainingChart("probe")
    >>> chart(SimpleNamespace(epochs=[1], train_loss=[0.69], val=[{"auc": 0.7, "log_loss": 0.6}]))
    >>> chart.picture()[1:4]
    b'PNG'
    """

    title: str
    metric: str = "auc"
    log_scale: bool = False
    history: Any = field(default=None, init=False, repr=False)
    _show: Callable[[], object] | None = field(default=None, init=False, repr=False)

    def __call__(self, history: Any) -> None:
        """Draw what has been trained so far."""
        if not history.epochs:
            return
        self.history = history
        if self._show is None:
            self._show = self._open()
        else:
            self._show()

    def alt(self) -> str:
        """The chart in words."""
        last = f"training loss {self.history.train_loss[-1]:.3f}"
        if self.history.val:
            last += f", validation {self.metric.replace('_', ' ')} {self.history.val[-1][self.metric]:.3f}"
        return f"{self.title}, epoch {self.history.epochs[-1]}: {last}."

    def picture(self) -> bytes:
        """PNG of the chart as it is now."""
        left, _ = training_curves(self.history, metric=self.metric, log_scale=self.log_scale)
        left.figure.suptitle(self.title, fontsize=11)
        return png(left.figure)

    def _open(self) -> Callable[[], object]:
        text = f"Training chart: {self.title}"
        if not in_ipython():
            return lambda: None
        if show_progress():
            box, redraw = _chart_box(self)
            display_widget(box, text)
            return redraw
        handle = display_static(self.picture(), text, alt=self.alt())
        return lambda: display_static(self.picture(), text, alt=self.alt(), handle=handle)


def _prediction_box(prediction: Prediction) -> ipywidgets.Widget:
    slider = ipywidgets.FloatSlider(
        value=prediction.low + prediction.step * round((prediction.high - prediction.low) / prediction.step / 2),
        min=prediction.low,
        max=prediction.high,
        step=prediction.step,
        readout=False,
        layout=ipywidgets.Layout(width="380px"),
    )
    answer, status = ipywidgets.Label(layout=ipywidgets.Layout(width="120px")), ipywidgets.HTML()
    button = ipywidgets.Button(description="Commit", button_style="primary", layout=ipywidgets.Layout(width="120px"))
    image = Picture(format="png", width=700, height=150)

    def redraw(*_) -> None:
        committed = prediction.value is not None
        if committed:
            slider.value = prediction.value
        slider.disabled = button.disabled = committed
        button.description = "Committed" if committed else "Commit"
        answer.value = prediction._text(slider.value)
        image.value = prediction.picture(slider.value, titled=False)  # the status line below says it
        said = prediction.verdict() if committed else "Move the slider, then commit: it cannot be changed after."
        if prediction.unsaved:
            said += f" It could not be kept for the next session: {prediction.unsaved}"
        status.value, image.tooltip = html.escape(said), f"{prediction.question} {said}"

    slider.observe(redraw, "value")
    button.on_click(lambda _: prediction.commit(slider.value))
    prediction.watch(redraw)
    redraw()
    question = ipywidgets.HTML(f"<b>{html.escape(prediction.question)}</b>")
    return framed(question, ipywidgets.HBox([slider, answer, button]), image, status)


def _chart_box(chart: TrainingChart) -> tuple[ipywidgets.Widget, Callable[[], None]]:
    names = list(chart.history.val[0]) if chart.history.val else [chart.metric]
    metric = ipywidgets.Dropdown(options=names, value=chart.metric, description="metric")
    log_scale = ipywidgets.Checkbox(value=chart.log_scale, description="logarithmic loss", indent=False)
    # One image whose bytes are replaced, of a fixed size: nothing flickers, nothing below it jumps.
    image, status = Picture(format="png", width=900, height=360), ipywidgets.HTML()

    def redraw(*_) -> None:
        chart.metric, chart.log_scale = metric.value, log_scale.value
        image.value, image.tooltip, status.value = chart.picture(), chart.alt(), html.escape(chart.alt())

    for control in (metric, log_scale):
        control.observe(redraw, "value")
    redraw()
    return framed(ipywidgets.HBox([metric, log_scale]), image, status), redraw
