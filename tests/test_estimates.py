from dataclasses import FrozenInstanceError

import pytest

from tlcourse.estimates import Estimate


def test_it_says_what_was_resampled_and_how_sure_it_is():
    text = repr(Estimate(-0.12345, -1.0, 0.5, n=8, resampled="pairs", level=0.9))
    assert text == "Estimate(-0.1235 [-1.0000, 0.5000], 90 % over n = 8 pairs)"


def test_it_does_not_change():
    with pytest.raises(FrozenInstanceError):
        Estimate(0.1, 0.0, 0.2, n=8, resampled="pairs").value = 0.3
