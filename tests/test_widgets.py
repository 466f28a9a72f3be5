"""The widgets' state, their views and what stands in for a view; `test_browser.py` drives them in JupyterLab."""

import doctest
import json
import math
from dataclasses import dataclass, field

import ipywidgets
import pytest

from tlcourse import figures, plots, views, widgets

QUESTION = {"question": "Which AUC?", "low": 0.5, "high": 1.0, "step": 0.01, "key": "q-1"}
COUNT = {"question": "How many?", "low": 0, "high": 3000, "step": 50, "unit": "labels", "key": "q-2"}

VERDICTS = [  # settings, forecast, measured, interval, what is said
    (QUESTION, None, None, None, "You committed no forecast."),
    (QUESTION, 0.85, None, None, "You said 0.85."),
    (QUESTION, 0.85, 0.87, None, "You said 0.85; measured 0.870: off by 0.020."),
    (
        QUESTION,
        0.85,
        0.87,
        (0.84, 0.9),
        "You said 0.85; measured 0.870 [0.840, 0.900]: off by 0.020, inside the interval.",
    ),
    (
        QUESTION,
        0.85,
        0.87,
        (0.86, 0.9),
        "You said 0.85; measured 0.870 [0.860, 0.900]: off by 0.020, outside the interval.",
    ),
    (QUESTION, None, 0.87, None, "You committed no forecast; measured 0.870."),
    (COUNT, 1200, 1333.4, None, "You said 1,200 labels; measured 1,333 labels: off by 133 labels."),
]
BAD = [  # a change of the settings, and a word of the message
    ({"low": 1.0}, "no answer lies between"),
    ({"step": 0}, "no answer lies between"),
    ({"step": 2}, "no answer lies between"),
    ({"key": ""}, "small letters"),
    ({"key": "../escape"}, "small letters"),
]


@dataclass
class History:
    """What `train` records, as far as it is drawn."""

    epochs: list[int] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    val: list[dict[str, float]] = field(default_factory=list)

    def grow(self):
        self.epochs.append(len(self.epochs) + 1)
        self.train_loss.append(1 / self.epochs[-1])
        self.val.append({"auc": 1 - 0.5 / self.epochs[-1], "accuracy": 0.6, "log_loss": 0.9 / self.epochs[-1]})
        return self


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TLCOURSE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def published(monkeypatch):
    """What would be displayed, with IPython there: a list of (bundle, options)."""
    shown = []

    class Handle:
        def update(self, bundle, **options):
            shown[0] = (bundle, options)

    def display(bundle, **options):
        shown.append((bundle, options))
        return Handle()

    for module in (widgets, views):
        monkeypatch.setattr(module, "in_ipython", lambda: True)
    monkeypatch.setattr("IPython.display.display", display)
    return shown


@pytest.fixture
def front_end(published, monkeypatch):
    """The same, where somebody watches, so that widgets are displayed."""
    monkeypatch.delenv("TLCOURSE_PROGRESS", raising=False)
    return published


def parts(widget, kind):
    """All widgets of a kind inside a widget, in order."""
    found = [widget] if isinstance(widget, kind) else []
    return found + [part for child in getattr(widget, "children", ()) for part in parts(child, kind)]


@pytest.mark.parametrize(("settings", "forecast", "measured", "interval", "said"), VERDICTS)
def test_what_is_said(settings, forecast, measured, interval, said):
    prediction = widgets.Prediction(**settings)
    if forecast is not None:
        prediction.commit(forecast)
    if measured is not None:
        prediction.reveal(measured, interval)
    assert prediction.verdict() == said


@pytest.mark.parametrize(("change", "message"), BAD)
def test_refuses_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        widgets.Prediction(**(QUESTION | change))


@pytest.mark.parametrize("value", [0.49, 1.01, math.nan, math.inf])
def test_refuses_a_forecast_outside_the_range(value, home):
    prediction = widgets.Prediction(**QUESTION)
    with pytest.raises(ValueError, match="between 0.5 and 1"):
        prediction.commit(value)
    assert prediction.value is None
    assert not list(home.rglob("*.json"))


def test_committed_is_committed_and_comes_back():
    widgets.Prediction(**QUESTION).commit(0.8)
    again = widgets.Prediction(**QUESTION)
    assert again.value == 0.8
    with pytest.raises(ValueError, match=r"committed 0\.80 already"):
        again.commit(0.9)
    again.reset()
    assert again.value is None
    assert widgets.Prediction(**QUESTION).value is None


def test_a_forecast_of_another_question_does_not_come_back():
    widgets.Prediction(**QUESTION).commit(0.8)
    assert widgets.Prediction(**(QUESTION | {"question": "Which accuracy?"})).value is None
    assert widgets.Prediction(**(QUESTION | {"low": 0.9})).value is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"value": 0.7}', '{"question": "Which AUC?", "value": null}'])
def test_a_damaged_file_is_named(home, content):
    file = home / "predictions" / "q-1.json"
    file.parent.mkdir()
    file.write_text(content)
    with pytest.raises(ValueError, match=r"q-1\.json.*delete that file"):
        widgets.Prediction(**QUESTION)


def test_a_forecast_is_written_whole_or_not_at_all(home, monkeypatch):
    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    prediction = widgets.Prediction(**QUESTION)
    prediction.commit(0.8)
    assert prediction.value == 0.8
    assert "No space left" in prediction.unsaved
    assert not [path for path in home.rglob("*") if path.is_file()]


def test_a_home_that_cannot_be_written_costs_only_the_memory(home, monkeypatch):
    (home / "file").write_text("")
    monkeypatch.setenv("TLCOURSE_HOME", str(home / "file"))
    prediction = widgets.Prediction(**QUESTION)
    prediction.commit(0.8)
    assert prediction.value == 0.8
    assert prediction.unsaved


def test_what_is_kept_on_disk(home):
    widgets.Prediction(**QUESTION).commit(0.8)
    kept = json.loads((home / "predictions" / "q-1.json").read_text())
    assert kept == {"question": "Which AUC?", "value": 0.8}


def test_the_user_folder_serves_without_the_variable(monkeypatch):
    monkeypatch.setenv("TLCOURSE_HOME", "")
    monkeypatch.setattr("platformdirs.user_data_dir", lambda name: f"/data/{name}")
    assert widgets.learner_dir().as_posix() == "/data/tlcourse"


def test_nothing_measured_is_refused():
    with pytest.raises(ValueError, match="nan"):
        widgets.Prediction(**QUESTION).reveal(math.nan)


def test_the_picture_follows_the_state():
    prediction = widgets.Prediction(**QUESTION)
    pictures = [prediction.picture(), prediction.picture(0.6), prediction.picture(0.7)]
    prediction.commit(0.7)
    pictures.append(prediction.picture(0.6))
    assert prediction.picture(0.9) == pictures[-1]  # a candidate does not matter any more
    prediction.reveal(0.8)
    pictures.append(prediction.picture())
    assert len(set(pictures)) == len(pictures)


def test_a_figure_draws_the_committed_forecast_and_no_other():
    prediction = widgets.Prediction(**QUESTION)
    ax = figures.new_axes()
    plots.mark_prediction(ax, prediction)
    assert not ax.lines
    prediction.commit(0.7)
    plots.mark_prediction(ax, prediction)
    assert list(ax.lines[0].get_ydata()) == [0.7, 0.7]


def test_without_ipython_there_is_text(capsys):
    widgets.predict("Which AUC?", low=0.5, high=1.0, key="q-1").reveal(0.8)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Prediction: Which AUC? (from 0.500 to 1.000): no forecast yet"
    assert said[1] == "Which AUC? No forecast was committed; the picture shows the result."


def test_a_build_shows_a_picture_and_a_text_without_measured_digits(published):
    prediction = widgets.predict("How many?", low=0, high=100, unit="duels", key="q-1")
    prediction.reveal(72.3)
    assert [set(bundle) for bundle, _ in published] == [{"image/png", "text/plain"}] * 2
    texts = [bundle["text/plain"] for bundle, _ in published]
    assert texts[0] == "Prediction: How many? (from 0 to 100 duels): no forecast yet"
    assert not any(character.isdigit() for character in texts[1])
    assert published[1][1]["metadata"]["image/png"]["alt"].endswith("measured 72 duels.")


def test_in_a_front_end_the_view_is_displayed(front_end):
    widgets.predict("Which AUC?", low=0.5, high=1.0, step=0.01, key="q-1")
    ((bundle, _),) = front_end
    assert set(bundle) == {"application/vnd.jupyter.widget-view+json", "text/plain"}
    assert bundle["text/plain"] == "Prediction: Which AUC? (from 0.50 to 1.00): no forecast yet"


def test_the_box_is_a_view_of_the_state():
    prediction = widgets.Prediction(**QUESTION)
    box = widgets._prediction_box(prediction)
    (slider,), (button,), (image,) = (
        parts(box, kind) for kind in (ipywidgets.FloatSlider, ipywidgets.Button, ipywidgets.Image)
    )
    status = parts(box, ipywidgets.HTML)[-1]
    before = image.value
    slider.value = 0.85
    assert image.value != before
    assert prediction.value is None
    button.click()
    assert prediction.value == 0.85
    assert slider.disabled
    assert button.disabled
    assert status.value == "You said 0.85."
    committed = image.value
    prediction.reveal(0.9, (0.88, 0.92))
    assert image.value != committed
    assert "measured 0.900" in status.value
    assert "measured 0.900" in image.tooltip
    prediction.reset()
    assert not slider.disabled


def test_the_box_escapes_what_it_is_asked():
    box = widgets._prediction_box(widgets.Prediction("a < b & <i>c</i>?", 0, 1, 0.1, key="q"))
    assert parts(box, ipywidgets.HTML)[0].value == "<b>a &lt; b &amp; &lt;i&gt;c&lt;/i&gt;?</b>"


def test_a_kept_forecast_opens_a_locked_box():
    widgets.Prediction(**QUESTION).commit(0.65)
    box = widgets._prediction_box(widgets.Prediction(**QUESTION))
    (slider,) = parts(box, ipywidgets.FloatSlider)
    assert (slider.value, slider.disabled) == (0.65, True)


def test_the_chart_redraws_one_image_and_obeys_its_controls():
    chart = widgets.TrainingChart("probe")
    history = History().grow()
    chart(history)
    box, redraw = widgets._chart_box(chart)
    (image,), (metric,), (scale,) = (
        parts(box, kind) for kind in (ipywidgets.Image, ipywidgets.Dropdown, ipywidgets.Checkbox)
    )
    pictures = [image.value]
    history.grow()
    redraw()
    pictures.append(image.value)
    assert image.tooltip == "probe, epoch 2: training loss 0.500, validation auc 0.750."
    metric.value = "accuracy"
    pictures.append(image.value)
    assert "validation accuracy 0.600" in parts(box, ipywidgets.HTML)[-1].value
    scale.value = True
    pictures.append(image.value)
    assert len(set(pictures)) == 4
    assert (chart.metric, chart.log_scale) == ("accuracy", True)
    assert (image.width, image.height) == ("900", "360")


def test_the_chart_is_displayed_once_in_a_front_end(front_end):
    chart, history = widgets.TrainingChart("probe"), History()
    chart(history)
    assert not front_end
    for _ in range(3):
        chart(history.grow())
    ((bundle, _),) = front_end
    assert set(bundle) == {"application/vnd.jupyter.widget-view+json", "text/plain"}


def test_a_build_keeps_the_last_picture_under_a_text_that_never_changes(published):
    chart, history = widgets.TrainingChart("probe"), History()
    texts = []
    for _ in range(3):
        chart(history.grow())
        texts.append(published[0][0]["text/plain"])
    assert set(texts) == {"Training chart: probe"}
    ((bundle, options),) = published
    assert bundle["image/png"] == chart.picture()
    assert options["metadata"]["image/png"]["alt"] == chart.alt()
    assert "epoch 3" in chart.alt()


def test_a_chart_without_validation_draws_the_loss():
    chart = widgets.TrainingChart("probe")
    chart(History(epochs=[1], train_loss=[0.7]))
    widgets._chart_box(chart)
    assert chart.alt() == "probe, epoch 1: training loss 0.700."


def test_examples_in_docstrings(monkeypatch):
    assert doctest.testmod(widgets).failed == 0
