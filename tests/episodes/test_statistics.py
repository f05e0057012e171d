import numpy as np
import pytest

from warpzone.episodes.statistics import (
    bootstrap_difference,
    bootstrap_mean,
    newcombe,
    wilson,
)


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


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((6, 7, 2, 7), 0.0582, 0.8062),
        ((5, 56, 0, 29), -0.0381, 0.1926),
        ((0, 10, 0, 20), -0.1611, 0.2775),
        ((0, 10, 0, 10), -0.2775, 0.2775),
        ((10, 10, 0, 20), 0.6791, 1.0000),
        ((10, 10, 0, 10), 0.6075, 1.0000),
    ],
)
def test_newcombe_gives_the_published_values(
    counts: tuple[int, int, int, int], low: float, high: float
) -> None:
    # Table II of Newcombe 1998 (Statistics in Medicine 17:873), method 10.
    assert newcombe(*counts) == pytest.approx((low, high), abs=5e-5)


def test_bootstrap_of_two_values_spans_the_four_possible_resamples() -> None:
    # The resamples of (0, 1) have means 0, 1/2, 1/2 and 1, each with chance 1/4, so
    # both tails of 2.5 % lie in an outer one.
    interval = bootstrap_mean(np.array([0, 1]), 2_000, np.random.default_rng(1))
    assert interval == (0.0, 1.0)


def test_bootstrap_agrees_with_the_normal_interval_of_a_large_sample() -> None:
    # The values 0 to 999 have the variance (1000**2 - 1) / 12, so the mean's standard
    # error is 9.13 and its interval 499.5 +- 17.9.
    values = np.arange(1_000)
    interval = bootstrap_mean(values, 4_000, np.random.default_rng(1))
    assert interval == pytest.approx((481.6, 517.4), abs=1.5)


def test_bootstrap_of_a_difference_adds_the_variances() -> None:
    # As above with both groups: standard error 9.13 * sqrt(2) = 12.9.
    values = np.arange(1_000)
    rng = np.random.default_rng(1)
    interval = bootstrap_difference(values + 100, values, 4_000, rng)
    assert interval == pytest.approx((74.7, 125.3), abs=2.0)


def test_bootstrap_depends_on_nothing_but_the_generator() -> None:
    values = np.arange(20) ** 2

    def bounds(seed: int) -> tuple[float, float]:
        return bootstrap_mean(values, 200, np.random.default_rng(seed))

    assert bounds(1) == bounds(1)
    assert bounds(1) != bounds(2)


def test_bootstrap_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        bootstrap_mean(np.array([]), 200, np.random.default_rng(1))
