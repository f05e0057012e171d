"""95 % confidence intervals of proportions and means, and of their differences."""

from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
_PERCENTILES = (50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE))


class Interval(NamedTuple):
    """Bounds of an interval."""

    low: float
    high: float


def wilson(successes: int, trials: int) -> Interval:
    """Return the score interval of a proportion, sensible at 0 and 1.

    Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953; it is method 3 of
    Newcombe 1998, https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E.

    Raises:
        ValueError: If it is no proportion.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials is no proportion")
    share = successes / trials
    spread = _Z**2 / trials
    centre = (share + spread / 2) / (1 + spread)
    half = sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    # At the ends the bound is exact, and rounding would put it just outside [0, 1].
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return Interval(low, high)


def newcombe(
    successes_a: int, trials_a: int, successes_b: int, trials_b: int
) -> Interval:
    """Return the interval of the difference of two independent proportions, a minus b.

    Method 10 of Newcombe 1998, which joins two Wilson intervals,
    https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I.
    """
    a, b = wilson(successes_a, trials_a), wilson(successes_b, trials_b)
    share_a, share_b = successes_a / trials_a, successes_b / trials_b
    difference = share_a - share_b
    return Interval(
        difference - sqrt((share_a - a.low) ** 2 + (b.high - share_b) ** 2),
        difference + sqrt((a.high - share_a) ** 2 + (share_b - b.low) ** 2),
    )


def bootstrap_mean(
    values: np.ndarray, samples: int, rng: np.random.Generator
) -> Interval:
    """Return the percentile bootstrap interval of the mean of independent values.

    Efron 1979, https://doi.org/10.1214/aos/1176344552. It takes 1,000 samples or more
    for steady bounds.
    """
    return _percentiles([_resampled_mean(values, rng) for _ in range(samples)])


def bootstrap_difference(
    values_a: np.ndarray, values_b: np.ndarray, samples: int, rng: np.random.Generator
) -> Interval:
    """Return the percentile bootstrap interval of a difference of means, a minus b."""
    return _percentiles(
        [
            _resampled_mean(values_a, rng) - _resampled_mean(values_b, rng)
            for _ in range(samples)
        ]
    )


def _resampled_mean(values: np.ndarray, rng: np.random.Generator) -> float:
    if len(values) == 0:
        raise ValueError("a mean needs at least one value")
    return values[rng.integers(len(values), size=len(values))].mean()


def _percentiles(means: list[float]) -> Interval:
    low, high = np.percentile(means, _PERCENTILES)
    return Interval(float(low), float(high))
