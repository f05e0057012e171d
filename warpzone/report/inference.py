"""95 % intervals and tests of what agents reach, and what a comparison can show.

A recipe is trained with several seeds, and each trained agent plays several episodes.
``Groups`` keeps both levels apart, because only the training seed replicates the
recipe. With several seeds an interval is about the recipe: about the mean over agents
trained with new seeds. With one seed it is about that one agent in new episodes, and
says next to nothing of the recipe: in a simulation with seeds that differ, it held the
recipe's mean in 30 % of cases. ``seeds_of`` tells a report which of both it has.

Docstrings give the coverage in simulations; tests/report/test_inference.py repeats most
of them.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from math import asin, comb, inf, pi, sin, sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit
from scipy.stats import fisher_exact, mannwhitneyu, trim_mean

from warpzone.episodes.statistics import UPPER, Interval, score_interval, wilson

_CHUNK = 1_000_000
"""Values that a bootstrap holds at once."""
_EXACT = 40
"""Values of both groups, up to which a Mann-Whitney test counts all splits."""

type Seeds = Sequence[np.ndarray]
"""One task's episodes: an array a training seed, shape ``(episodes,)``."""
type Groups = Mapping[str, Seeds]
"""An agent's episodes by task."""
type Statistic = Callable[[np.ndarray], np.ndarray]
"""Reduces the last axis: ``mean``, ``median`` or ``interquartile_mean``."""


class Band(NamedTuple):
    """A curve with a pointwise interval; all arrays have one length."""

    share: np.ndarray
    low: np.ndarray
    high: np.ndarray


def mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis."""
    _check_values(values)
    return values.mean(axis=-1)


def median(values: np.ndarray) -> np.ndarray:
    """Return the median over the last axis."""
    _check_values(values)
    return np.median(values, axis=-1)


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of the middle half over the last axis.

    Of ``n`` values, ``n // 4`` at each end are left out. Agarwal et al. 2021,
    https://arxiv.org/abs/2108.13264, recommend it over the median, which wastes data,
    and the mean, which a few outliers move.
    """
    _check_values(values)
    return trim_mean(values, 0.25, axis=-1)


def seeds_of(groups: Groups) -> int:
    """Return the training seeds behind every task: the number of the task with fewest.

    At 1, what is said of the groups is about one trained agent, not about its recipe.
    """
    _check(groups)
    return min(map(len, groups.values()))


def estimate(groups: Groups, statistic: Statistic) -> float:
    """Return a statistic of an agent's episodes, averaged over seeds, then tasks.

    Every seed of a task and every task has the same weight, as in Agarwal et al. 2021,
    https://arxiv.org/abs/2108.13264, whatever its number of episodes.
    """
    _check(groups)
    return float(np.mean([_of_task(s, statistic) for s in groups.values()]))


def bootstrap(
    groups: Groups, statistic: Statistic, samples: int, rng: np.random.Generator
) -> Interval:
    """Return the interval of ``estimate``.

    One seed in every task: a percentile bootstrap of the episodes, stratified by
    task (Efron 1979, https://doi.org/10.1214/aos/1176344552), with tails that allow
    for few episodes (Hesterberg 2015, https://doi.org/10.1080/00031305.2015.1089789).
    From 1,000 samples its bounds are steady. Of 100 episodes that end at a few places
    it covers 94 to 95 % (mean), 95 to 96 % (interquartile mean) and 95 to 100 %
    (median); the mean of 24 episodes 92 to 94 %, of 10 episodes 90 to 94 %.

    Several seeds in a task: Student's t interval of one value a seed, the statistic of
    its episodes, joined over tasks as in Welch 1947,
    https://doi.org/10.1093/biomet/34.1-2.28; ``samples`` and ``rng`` do nothing. A
    task with one seed among them counts with its bootstrap's variance, as that agent.
    Of 2 to 10 seeds that differ it covers 92 to 95 % (mean) and 93 to 94 %
    (interquartile mean). The median jumps between places: 76, 84, 96 and 92 % of 2, 3,
    5 and 10 seeds. A bootstrap that resamples seeds, then the episodes of each, covers
    the mean in 61, 76, 85 and 90 %.

    Where seeds either learn a task or do not, with chance 0.6 and 0.4, it covers 71,
    91 and 94 % of 3, 5 and 10 seeds: three are often all alike. It has no width where
    all values are equal. For success rates take ``success_interval``.

    Raises:
        ValueError: If there is no task, seed or episode, a value is not finite, or a
            task has one seed with one episode, from which no interval follows.
    """
    return _interval([(1, groups)], statistic, samples, rng)


def bootstrap_difference(
    a: Groups,
    b: Groups,
    statistic: Statistic,
    samples: int,
    rng: np.random.Generator,
) -> Interval:
    """Return the interval of a difference of ``estimate``, a minus b.

    As ``bootstrap``, with the seeds of a and b independent: Welch's t interval where a
    task of either has several seeds, else a bootstrap, which compares two agents. It
    covers 95 to 97 % of 24 and of 100 episodes each, 94 to 97 % of 2 to 10 seeds each,
    93 % of 5 seeds against one agent, and 89 % of 10 seeds against 2.

    Raises:
        ValueError: As ``bootstrap``, and if the tasks differ.
    """
    _check_tasks(a, b)
    return _interval([(1, a), (-1, b)], statistic, samples, rng)


def newcombe(
    successes_a: int, trials_a: int, successes_b: int, trials_b: int
) -> Interval:
    """Return the interval of the difference of two independent proportions, a minus b.

    Method 10 of Newcombe 1998, which joins two Wilson intervals,
    https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I.
    It covers 94 to 97 % of 24 or 100 trials each at rates from 0.1 to 0.9, and up to
    100 % beyond.
    """
    a, b = wilson(successes_a, trials_a), wilson(successes_b, trials_b)
    return _join([(1, successes_a / trials_a, a), (-1, successes_b / trials_b, b)])


def success_interval(groups: Groups) -> Interval:
    """Return the interval of a success rate, averaged over seeds, then tasks.

    The values are 1 or True for success, else 0. With one seed and one task it is
    ``wilson``. With several seeds it is Wilson's with an effective number of trials,
    which yields the variance between the seeds and is at most the number of episodes
    (Franco et al. 2019, https://pmc.ncbi.nlm.nih.gov/articles/PMC6690503), and with
    Student's t for the normal quantile. Where all episodes succeed, or none, that
    number is undefined, and each seed counts as one trial. Tasks are joined as in
    ``success_difference``.

    Of 3 to 10 seeds with rates from beta distributions it covers 92 to 97 %, where
    Student's t interval of the rates covers 87 to 95 % and leaves [0, 1]; of 2 seeds
    it covers 99 % or more. Where all seeds have one rate, it covers 98 to 100 %. Where
    they reach 0.9 or 0, with chance 0.6 and 0.4, it covers 80, 93 and 94 % of 3, 5 and
    10 seeds.

    Raises:
        ValueError: If there is no task, seed or episode, or a value is not 0 or 1.
    """
    return _join(_success_terms(1, groups))


def success_difference(a: Groups, b: Groups) -> Interval:
    """Return the interval of a difference of success rates, a minus b.

    ``success_interval`` of all tasks of both, joined by the squares of their arms:
    Zou and Donner 2008, https://doi.org/10.1002/sim.3095. With one seed and one task
    it is ``newcombe``. It covers 95 to 99 % of 3 to 10 seeds with rates from beta
    distributions, more of 2, and 92 to 97 % where one recipe's seeds reach 0.9 or 0.

    Raises:
        ValueError: As ``success_interval``, and if the tasks differ.
    """
    _check_tasks(a, b)
    return _join(_success_terms(1, a) + _success_terms(-1, b))


def profile_band(seeds: Seeds, thresholds: np.ndarray) -> Band:
    """Return the share of a task's episodes that reach each threshold, with a band.

    The performance profile of Agarwal et al. 2021, https://arxiv.org/abs/2108.13264.
    The share averages over seeds. The band is ``success_interval`` of each threshold:
    it holds for one threshold at a time, so the true curve leaves it somewhere more
    often than 5 %.
    """
    _check_seeds(seeds)
    reached = [[values >= threshold for values in seeds] for threshold in thresholds]
    bounds = [_success_of_task(successes) for successes in reached]
    return Band(
        np.array([_of_task(successes, mean) for successes in reached]),
        np.array([low for low, _ in bounds]),
        np.array([high for _, high in bounds]),
    )


def probability_of_improvement(a: Groups, b: Groups) -> float:
    """Return the chance that an episode of a exceeds one of b; ties count half.

    The Mann-Whitney statistic over the number of pairs, averaged over pairs of seeds,
    then over tasks: section 4.3 of Agarwal et al. 2021,
    https://arxiv.org/abs/2108.13264.
    """
    _check_tasks(a, b)
    return float(np.mean([_placements(a[task], b[task])[0].mean() for task in a]))


def improvement_interval(a: Groups, b: Groups) -> Interval:
    """Return the interval of ``probability_of_improvement``.

    The variance is DeLong's, https://doi.org/10.2307/2531595: from the chance of each
    seed against the other agent or, of an agent with one seed, of each episode. From
    it follows a score interval as in ``success_interval``, with Welch's degrees of
    freedom. Where no seed or episode has another chance than the rest, their chance
    counts with the share of exceptions that ``wilson`` allows for.

    Of 20 and of 100 episodes each it covers 95 to 99 %, where a percentile bootstrap
    covers 82 to 95 % and has no width once all is won. Of 2 seeds each it covers 98 to
    100 %, of 3 to 10 seeds 95 to 99 %, but 88 to 91 % at a chance of 0.93 with seeds
    that differ as much as episodes.

    Raises:
        ValueError: As ``bootstrap``, and if the tasks differ.
    """
    _check_tasks(a, b)
    terms = []
    for task in a:
        sides = _placements(a[task], b[task])
        chance, units = float(sides[0].mean()), min(map(len, sides))
        if units < 2:
            raise ValueError(_too_few(task))
        parts = [(float(side.var(ddof=1)) / len(side), len(side) - 1) for side in sides]
        if sum(variance for variance, _ in parts) == 0:
            rest = wilson(0, units).high
            interval = Interval(chance * (1 - rest), chance * (1 - rest) + rest)
        else:
            variance, freedom = _welch(parts)
            # Where nearly all is won, n exponential values each tell as much as 2 n
            # trials (Hanley and McNeil 1982, doi.org/10.1148/radiology.143.1.7063747).
            # A smaller variance is luck.
            most = 2 * min(sum(map(len, seeds)) for seeds in (a[task], b[task]))
            trials = min(chance * (1 - chance) / variance, most)
            interval = score_interval(chance, trials, float(stdtrit(freedom, UPPER)))
        terms.append((1 / len(a), chance, interval))
    return _join(terms)


def mann_whitney(a: np.ndarray, b: np.ndarray) -> float:
    """Return the two-sided p value of the hypothesis that a and b are alike.

    Mann and Whitney 1947, https://doi.org/10.1214/aoms/1177730491. Up to 40 values it
    counts, ties included, the splits of all values whose rank sum lies as far from the
    mean. Above, it is the normal approximation, with corrections for ties and for
    continuity.

    At 5 % it rejects clumped values of one distribution in 3 to 5 % of cases. The
    values are independent: episodes of one agent each, or one value a training
    seed. With three seeds each it cannot get below 0.1, with four 0.029, with five
    0.008.
    """
    for values in (a, b):
        _check_seeds([values])
    together = np.concatenate([a, b])
    if np.ptp(together) == 0:
        return 1.0
    if len(together) > _EXACT:
        _, p = mannwhitneyu(a, b, method="asymptotic")
        return float(p)  # pyright: ignore[reportArgumentType]
    _, place, ties = np.unique(together, return_inverse=True, return_counts=True)
    # Twice the mean rank of each value, so that ties have whole numbers.
    ranks = (2 * ties.cumsum() - ties + 1)[place].tolist()
    centre = len(a) * (len(together) + 1)
    distance = abs(sum(ranks[: len(a)]) - centre)
    return _share_of_splits(ranks, len(a), centre, distance)


def fisher(successes_a: int, trials_a: int, successes_b: int, trials_b: int) -> float:
    """Return the two-sided p value of the hypothesis of equal proportions.

    Fisher's exact test, https://doi.org/10.2307/2342435: the chance, given the sum of
    the successes, of all tables that are no more likely than this one. It is exact in
    whole numbers and never rejects too often. It is cautious: at 5 % it rejects equal
    rates in 0 to 3 % of cases with 24 trials each, and in 0 to 4 % with 100. So p can
    be above 0.05 where ``newcombe`` excludes 0. Barnard's test is less cautious, but
    searches over the unknown rate. Episodes of several seeds are not independent
    trials: compare the rates of the seeds by ``mann_whitney``.
    """
    for successes, trials in ((successes_a, trials_a), (successes_b, trials_b)):
        wilson(successes, trials)
    failures = trials_a - successes_a, trials_b - successes_b
    _, p = fisher_exact([(successes_a, successes_b), failures])
    return float(p)  # pyright: ignore[reportArgumentType]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values that hold for all comparisons together, in the order given.

    Holm 1979, https://www.jstor.org/stable/4615733: to reject those below 0.05 errs in
    any of them in at most 5 % of cases.
    """
    for p in p_values:
        if not 0 <= p <= 1:
            raise ValueError(f"a p value lies between 0 and 1, got {p}")
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    factors = range(len(order), 0, -1)
    scaled = [min(1.0, f * p_values[i]) for f, i in zip(factors, order, strict=True)]
    adjusted = dict(zip(order, accumulate(scaled, max), strict=True))
    return [adjusted[i] for i in range(len(order))]


def detectable_difference(rate: float, trials: int, power: float = 0.8) -> float:
    """Return the difference from a success rate that two agents can show.

    Of so many ``trials`` each, ``newcombe`` excludes 0 with chance ``power`` where the
    other rate lies so far from ``rate``, in the direction of 1/2. Chapter 6 of Cohen
    1988, https://doi.org/10.4324/9780203771587, with Anscombe's arcsine transformation,
    https://doi.org/10.1093/biomet/35.3-4.246, which also serves at 0 and 1. From 24
    trials the true power is 74 to 85 % where 80 % is asked for; that of ``fisher`` is
    less. It is infinite where not even the other end would do.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"a success rate lies between 0 and 1, got {rate}")
    if trials < 1:
        raise ValueError(f"a success rate needs at least one trial, got {trials}")
    low, added = min(rate, 1 - rate), trials + 3 / 4
    angle = asin(sqrt((trials * low + 3 / 8) / added))
    angle += _both_errors(power, inf) / sqrt(2 * trials)
    high = (sin(angle) ** 2 * added - 3 / 8) / trials
    return high - low if angle <= pi / 2 and high <= 1 else inf


def detectable_mean_difference(
    standard_deviation: float, n: int, power: float = 0.8
) -> float:
    """Return the difference of means that two agents can show.

    Of ``n`` values each, Welch's interval excludes 0 with chance ``power``. A value is
    a training seed's, with the standard deviation between seeds; or, for two trained
    agents, an episode's. It is the sum of both errors' quantiles of Student's t
    (chapter 2 of Cohen 1988, https://doi.org/10.4324/9780203771587), with degrees of
    freedom in the middle of those that Welch's has. The power in simulations of normal
    values is 80 to 81 % from 4 values each where 80 % is asked for, but 77 % with 3
    and 61 % with 2.
    """
    if not 0 <= standard_deviation < inf:
        raise ValueError(
            f"a standard deviation is at least 0 and finite, got {standard_deviation}"
        )
    if n < 2:
        raise ValueError(f"a difference of means needs two values each, got {n}")
    return standard_deviation * _both_errors(power, 1.5 * (n - 1)) * sqrt(2 / n)


def _check(groups: Groups) -> None:
    """Check that each task has a seed, and each seed finite values."""
    if not groups:
        raise ValueError("a statistic needs at least one task, got 0")
    for task, seeds in groups.items():
        _check_seeds(seeds, f" in task {task}")


def _check_seeds(seeds: Seeds, of_task: str = "") -> None:
    if len(seeds) == 0:
        raise ValueError(f"a statistic needs at least one seed{of_task}, got 0")
    for values in seeds:
        if values.ndim != 1:
            raise ValueError(
                f"a seed{of_task} has one value an episode, got an array of shape "
                f"{values.shape}"
            )
        _check_values(values, of_task)


def _check_values(values: np.ndarray, of_task: str = "") -> None:
    if values.size == 0:
        raise ValueError(f"a statistic needs at least one value{of_task}, got 0")
    if not np.isfinite(values).all():
        wrong = values[~np.isfinite(values)][0]
        raise ValueError(f"a statistic needs finite values{of_task}, got {wrong}")


def _check_tasks(a: Groups, b: Groups) -> None:
    for groups in (a, b):
        _check(groups)
    if set(a) != set(b):
        raise ValueError(
            f"two agents are compared on the same tasks, got {sorted(a)} and "
            f"{sorted(b)}"
        )


def _too_few(task: str) -> str:
    return (
        f"an interval needs two seeds or two episodes in task {task}, got one episode"
    )


def _of_task(seeds: Seeds, statistic: Statistic) -> float:
    return float(np.mean([statistic(values) for values in seeds]))


def _interval(
    sides: Sequence[tuple[int, Groups]],
    statistic: Statistic,
    samples: int,
    rng: np.random.Generator,
) -> Interval:
    """Return the interval of the sum of ``estimate`` times its sign, over the sides."""
    if samples < 1:
        raise ValueError(f"a bootstrap needs at least one sample, got {samples}")
    cells: list[tuple[float, Seeds]] = []
    for sign, groups in sides:
        _check(groups)
        for task, seeds in groups.items():
            if len(seeds) == 1 and len(seeds[0]) == 1:
                raise ValueError(_too_few(task))
            cells.append((sign / len(groups), seeds))
    resample = partial(_resample, statistic=statistic, samples=samples, rng=rng)
    if all(len(seeds) == 1 for _, seeds in cells):
        sums = sum(weight * resample(seeds[0]) for weight, seeds in cells)
        fewest = min(len(seeds[0]) for _, seeds in cells)
        low, high = np.quantile(sums, _expanded(fewest))
        return Interval(float(low), float(high))
    parts = []
    for weight, seeds in cells:
        if len(seeds) == 1:
            variance, count = resample(seeds[0]).var(), len(seeds[0])
        else:
            values = np.array([statistic(values) for values in seeds])
            variance, count = values.var(ddof=1) / len(seeds), len(seeds)
        parts.append((weight**2 * float(variance), count - 1))
    centre = sum(weight * _of_task(seeds, statistic) for weight, seeds in cells)
    variance, freedom = _welch(parts)
    half = float(stdtrit(freedom, UPPER)) * sqrt(variance)
    return Interval(centre - half, centre + half)


def _resample(
    values: np.ndarray, statistic: Statistic, samples: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the statistic of resampled values, shape ``(samples,)``."""
    count = len(values)
    rows = max(1, _CHUNK // count)
    return np.concatenate(
        [
            statistic(values[rng.integers(count, size=(min(rows, samples - i), count))])
            for i in range(0, samples, rows)
        ]
    )


def _expanded(count: int) -> tuple[float, float]:
    """Return the tails at which a bootstrap of so many values is cut.

    Resamples of a few values spread too little; with these tails the mean's interval
    is Student's where the values are normal: Hesterberg 2015,
    https://doi.org/10.1080/00031305.2015.1089789.
    """
    normal = sqrt(count / (count - 1)) * float(stdtrit(count - 1, UPPER))
    return NormalDist().cdf(-normal), NormalDist().cdf(normal)


def _welch(parts: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """Return a sum of variances and its degrees of freedom, from those of its parts.

    Welch 1947, https://doi.org/10.1093/biomet/34.1-2.28.
    """
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return 0.0, min(freedom for _, freedom in parts)
    # Of shares, since the square of a tiny variance may be 0.
    shares = sum((part / variance) ** 2 / freedom for part, freedom in parts)
    return variance, 1 / shares


def _success_terms(sign: int, groups: Groups) -> list[tuple[float, float, Interval]]:
    """Return the weight, rate and interval of each task."""
    _check(groups)
    return [
        (sign / len(groups), _of_task(seeds, mean), _success_of_task(seeds))
        for seeds in groups.values()
    ]


def _success_of_task(seeds: Seeds) -> Interval:
    for values in seeds:
        if not np.isin(values, (0, 1)).all():
            wrong = values[~np.isin(values, (0, 1))][0]
            raise ValueError(f"a success is 1 or 0, got {wrong}")
    if len(seeds) == 1:
        return wilson(int(seeds[0].sum()), len(seeds[0]))
    rates = np.array([values.mean() for values in seeds])
    rate = float(rates.mean())
    binomial = rate * (1 - rate)
    if binomial == 0:
        trials = len(seeds)
    else:
        episodes = sum(map(len, seeds))
        between = float(rates.var(ddof=1)) / len(seeds)
        trials = binomial / max(between, binomial / episodes)
    return score_interval(rate, trials, stdtrit(len(seeds) - 1, UPPER))


def _join(terms: Sequence[tuple[float, float, Interval]]) -> Interval:
    """Return the interval of a weighted sum, from weights, values and intervals.

    Zou and Donner 2008, https://doi.org/10.1002/sim.3095, with independent values.
    """
    if len(terms) == 1 and terms[0][0] == 1:
        return terms[0][2]
    value = sum(weight * estimate for weight, estimate, _ in terms)
    below = above = 0.0
    for weight, estimate, (low, high) in terms:
        arms = (weight * (low - estimate)) ** 2, (weight * (high - estimate)) ** 2
        down, up = arms if weight > 0 else arms[::-1]
        below, above = below + down, above + up
    return Interval(value - sqrt(below), value + sqrt(above))


def _placements(a: Seeds, b: Seeds) -> tuple[np.ndarray, np.ndarray]:
    """Return the chances that each unit of a wins, and that each unit of b loses.

    Units are the seeds, or the episodes of the only seed. Both have the same mean.
    """
    wins = [[_wins(ours, theirs) for theirs in b] for ours in a]
    chances = np.array([[pairs.mean() for pairs in row] for row in wins])
    of_a, of_b = chances.mean(axis=1), chances.mean(axis=0)
    if len(a) == 1:
        of_a = np.mean([pairs.mean(axis=1) for pairs in wins[0]], axis=0)
    if len(b) == 1:
        of_b = np.mean([row[0].mean(axis=0) for row in wins], axis=0)
    return of_a, of_b


def _wins(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return 1 where ours is higher, 1/2 at ties; shape ``(ours, theirs)``."""
    return (np.sign(ours[:, None] - theirs) + 1) / 2


def _share_of_splits(
    ranks: Sequence[int], size: int, centre: int, distance: int
) -> float:
    """Return the share of subsets whose sum lies so far from the centre, or farther."""
    # Row k holds how many subsets of k ranks have each sum; the counts fit int64.
    ways = np.zeros((size + 1, sum(ranks) + 1), dtype=np.int64)
    ways[0, 0] = 1
    for rank in ranks:
        ways[1:, rank:] += ways[:-1, :-rank].copy()
    far = abs(np.arange(ways.shape[1]) - centre) >= distance
    return int(ways[size, far].sum()) / comb(len(ranks), size)


def _both_errors(power: float, freedom: float) -> float:
    """Return the standard errors between no difference and one found so often."""
    if not 0.5 <= power < 1:
        raise ValueError(f"a power is at least 0.5 and below 1, got {power}")
    return float(stdtrit(freedom, UPPER)) + float(stdtrit(freedom, power))
