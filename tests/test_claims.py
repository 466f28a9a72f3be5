"""Verdicts, what is printed, and the table read back from notebooks."""

import json
import re
from pathlib import Path

import nbformat
import pytest

from tlcourse.claims import claim, print_table, read_claims, verdicts_in
from tlcourse.intervals import Scores

SEEDS = (0, 1, 2, 3, 4)
GAIN = Scores((0.08, 0.10, 0.07, 0.09, 0.08), SEEDS, paired=True)  # interval [0.0698, 0.0982]
VERDICTS = [
    # bars, verdict
    ({"above": 0.03}, "supported"),
    ({"above": 0.0697}, "supported"),
    ({"above": 0.0699}, "inconclusive"),
    ({"above": 0.0981}, "inconclusive"),
    ({"above": 0.0983}, "refuted"),
    ({"below": 0.0983}, "supported"),
    ({"below": 0.09}, "inconclusive"),
    ({"below": 0.0697}, "refuted"),
    ({"above": 0.0, "below": 0.1}, "supported"),
    ({"above": 0.08, "below": 0.1}, "inconclusive"),
    ({"above": 0.1, "below": 0.2}, "refuted"),
    ({"above": -0.2, "below": 0.0}, "refuted"),
]
MISTAKES = [
    # arguments of claim, error, what it says
    (("a", Scores((0.1,) * 4, (0, 1, 2, 3))), {"above": 0}, ValueError, "4 seeds are too few"),
    (("a", GAIN), {}, ValueError, "needs a bar"),
    (("a", GAIN), {"above": 1, "below": 0}, ValueError, "swap"),
    (("a", GAIN), {"above": float("nan")}, ValueError, "finite"),
    (("a", GAIN), {"above": 0, "expect": "true"}, ValueError, "supported, refuted, inconclusive"),
    ((" ", GAIN), {"above": 0}, ValueError, "one sentence"),
    (("a\nb", GAIN), {"above": 0}, ValueError, "one sentence"),
    (("a", 0.08), {"above": 0}, TypeError, "not float"),
]


@pytest.mark.parametrize(("bars", "verdict"), VERDICTS)
def test_verdict(bars, verdict):
    made = claim("it gains", GAIN, **bars)
    assert made.found == verdict
    mirrored = {{"above": "below", "below": "above"}[side]: -bar for side, bar in bars.items()}
    assert claim("it loses", -GAIN, **mirrored).found == verdict


def test_what_is_printed(capsys):
    claim("it gains", GAIN, above=0.03)
    claim("it gains much", GAIN, above=0.09)
    claim("it loses", GAIN, below=0, expect="refuted")
    claim("it is small", GAIN * 0.001, above=-1, below=1)
    claim("one group", Scores(GAIN.values, SEEDS), above=0.03)
    assert capsys.readouterr().out == (
        "SUPPORTED as expected: it gains\n"
        "  bar: above +0.03; 95 % t-interval over n = 5 paired seeds\n"
        "  measured: +0.0840 [+0.0698, +0.0982]\n"
        "INCONCLUSIVE, but supported was expected: it gains much\n"
        "  bar: above +0.09; 95 % t-interval over n = 5 paired seeds\n"
        "  measured: +0.0840 [+0.0698, +0.0982]\n"
        "REFUTED as expected: it loses\n"
        "  bar: below +0; 95 % t-interval over n = 5 paired seeds\n"
        "  measured: +0.0840 [+0.0698, +0.0982]\n"
        "SUPPORTED as expected: it is small\n"
        "  bar: between -1 and +1; 95 % t-interval over n = 5 paired seeds\n"
        "  measured: +8.40e-05 [+6.98e-05, +9.82e-05]\n"
        "SUPPORTED as expected: one group\n"
        "  bar: above +0.03; 95 % t-interval over n = 5 seeds\n"
        "  measured: +0.0840 [+0.0698, +0.0982]\n"
    )


def test_sanitising_hides_measured_digits_and_nothing_else(capsys):
    claim("it gains", GAIN, above=0.03)
    claim("it is small", GAIN * 0.001, above=-1, below=1)
    printed = capsys.readouterr().out
    config = (Path(__file__).parent / "nbval_sanitize.cfg").read_text(encoding="utf-8")
    (pattern, replacement), *others = re.findall(r"^regex: (.*)$\n^replace: (.*)$", config, re.MULTILINE)
    assert not others
    kept = re.sub(pattern, replacement, printed)
    lines, was = kept.splitlines(), printed.splitlines()
    assert [line for line, old in zip(lines, was, strict=True) if line != old] == ["  measured: DIGITS"] * 2
    for unusual in (
        "  measured: nan [nan, nan]",
        "  measured: +0.1",
        "  bar: above +0.03; 95 % t-interval over n = 5 paired seeds",
        "measured: +0.0840 [+0.0698, +0.0982]",
        "  measured: +0.0840 [+0.0698, +0.0982] or so",
    ):
        assert re.sub(pattern, replacement, unusual) == unusual
    rerun = "  measured: auc +0.8412 [+0.8001, +0.8900]"
    assert re.sub(pattern, replacement, rerun) == "  measured: auc DIGITS"


@pytest.mark.parametrize(("arguments", "options", "error", "message"), MISTAKES)
def test_mistakes(arguments, options, error, message, capsys):
    with pytest.raises(error, match=message):
        claim(*arguments, **options)
    assert capsys.readouterr().out == ""


def test_read_back(capsys):
    claim("first", GAIN, above=0.03)
    claim("second: with a colon", GAIN, above=0.09, expect="refuted")
    first, second = verdicts_in("before\n" + capsys.readouterr().out + "after\n")
    assert (first["text"], first["expected"], first["found"], first["n"]) == ("first", "supported", "supported", 5)
    assert second["text"] == "second: with a colon"
    assert (second["expected"], second["found"], second["bar"]) == ("refuted", "inconclusive", "above +0.09")
    assert (first["effect"], first["low"], first["high"]) == (0.084, 0.0698, 0.0982)


@pytest.fixture
def notebooks(tmp_path, capsys):
    claim("it gains", GAIN, above=0.03)
    claim("it gains much", GAIN, above=0.09)
    stream = nbformat.v4.new_output("stream", name="stdout", text=capsys.readouterr().out)
    cells = [nbformat.v4.new_markdown_cell("# text"), nbformat.v4.new_code_cell("…", outputs=[stream])]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "03_feature_extraction.ipynb")
    return tmp_path


def test_table(notebooks, capsys):
    print_table(notebooks)
    head, first, second, tally = capsys.readouterr().out.splitlines()
    assert head.split() == ["lesson", "expected", "found", "effect", "95", "%", "interval", "n", "claim"]
    row = ["03", "supported", "supported", "+0.0840", "[+0.0698,", "+0.0982]", "5", "it", "gains"]
    assert first.split() == row
    assert second.split()[2] == "inconclusive"
    assert head.index("claim") == first.index("it gains") == second.index("it gains much")
    assert tally == "2 claims: 1 supported, 0 refuted, 1 inconclusive; 1 as expected"


def test_table_as_json(notebooks, capsys):
    print_table(notebooks, as_json=True)
    assert json.loads(capsys.readouterr().out) == read_claims(notebooks)


def test_no_notebooks(tmp_path):
    with pytest.raises(FileNotFoundError, match="clone of the course"):
        read_claims(tmp_path)
