"""The interval of a success rate, against published values."""

import pytest

from warpzone.episodes.statistics import wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_values_published_by_newcombe(
    successes: int, trials: int, low: float, high: float
) -> None:
    # Table I of Newcombe 1998 (Statistics in Medicine 17:857), method 3.
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_wilson_of_all_successes_mirrors_wilson_of_none() -> None:
    none, every = wilson(0, 20), wilson(20, 20)
    assert every.high == 1.0
    assert every.low == pytest.approx(1 - none.high)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (-1, 5), (6, 5)])
def test_an_impossible_proportion_is_refused(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match=f"{successes} successes in {trials} trials"):
        wilson(successes, trials)
