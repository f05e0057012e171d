"""The 95 % interval of a success rate, and what intervals are."""

from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

CONFIDENCE = 0.95
UPPER = (1 + CONFIDENCE) / 2
"""The quantile at the upper end of an interval."""
_Z = NormalDist().inv_cdf(UPPER)


class Interval(NamedTuple):
    """Bounds of an interval."""

    low: float
    high: float


def wilson(successes: int, trials: int) -> Interval:
    """Return the score interval of a proportion, sensible at 0 and 1.

    Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953; it is method 3 of
    Newcombe 1998, https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E.
    It covers 95 % on average over all proportions. Where it covers least, close to 0
    and 1, that is 89 % of 24 trials and 91 % of 100.

    Raises:
        ValueError: If it is no proportion.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials is no proportion")
    return score_interval(successes / trials, trials, _Z)


def score_interval(share: float, trials: float, quantile: float) -> Interval:
    """Return the score interval of a share of trials, which need not be whole."""
    spread = quantile**2 / trials
    centre = (share + spread / 2) / (1 + spread)
    half = sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    # At the ends the bound is exact, and rounding would put it just outside [0, 1].
    low = 0.0 if share == 0 else centre - half
    high = 1.0 if share == 1 else centre + half
    return Interval(low, high)
