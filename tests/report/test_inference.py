"""Intervals and tests against published values, other implementations and chance.

Coverage of one-seed success rates is exact: a sum over all outcomes. All other coverage
is simulated. Whoever moves a number here moves it in the docstring that says it.
"""

from collections.abc import Callable, Sequence
from itertools import combinations, product
from math import comb, inf, nan, sqrt
from statistics import NormalDist

import numpy as np
import pytest
from scipy.special import stdtrit

from warpzone.episodes.statistics import Interval, wilson
from warpzone.report import inference
from warpzone.report.inference import (
    Statistic,
    bootstrap,
    bootstrap_difference,
    detectable_difference,
    detectable_mean_difference,
    estimate,
    fisher,
    holm,
    improvement_interval,
    interquartile_mean,
    mann_whitney,
    mean,
    median,
    newcombe,
    probability_of_improvement,
    profile_band,
    seeds_of,
    success_difference,
    success_interval,
)

PLACES = np.array([300.0, 700, 1400, 2200, 3200])
"""Where episodes end, in simulations: an agent dies at a few places."""
WEAK = np.array([0.7, 0.2, 0.1, 0, 0])
MIDDLE = np.array([0.3, 0.2, 0.2, 0.15, 0.15])
GOOD = np.array([0.05, 0.05, 0.1, 0.2, 0.6])
"""The chances of an agent's places."""


def coverage(truth: float, make: Callable[[], Interval], repeats: int) -> float:
    """How often an interval of new data holds the truth."""
    bounds = [make() for _ in range(repeats)]
    return np.mean([low - 1e-9 <= truth <= high + 1e-9 for low, high in bounds]).item()


def play(
    chances: np.ndarray, rng: np.random.Generator, episodes: int = 100
) -> list[np.ndarray]:
    """Where the episodes of each seed end; chances of shape ``(seeds, places)``."""
    return [rng.choice(PLACES, size=episodes, p=row) for row in np.atleast_2d(chances)]


def truth_of(chances: np.ndarray, statistic: Statistic) -> float:
    """The statistic of endlessly many episodes."""
    return float(statistic(np.repeat(PLACES, (chances * 1_000).round().astype(int))))


def chance_of_winning(a: np.ndarray, b: np.ndarray) -> float:
    """How often an episode of a ends farther than one of b; ties count half."""
    won = np.tril(np.outer(a, b), -1).sum() + (a * b).sum() / 2
    return float(won)


def flip(
    rates: Sequence[float] | np.ndarray, rng: np.random.Generator
) -> list[np.ndarray]:
    """The successes of 100 episodes of each seed."""
    return [(rng.random(100) < rate).astype(float) for rate in rates]


def chances_of_counts(trials: int, rate: float) -> np.ndarray:
    """The binomial distribution."""
    return np.array(
        [
            comb(trials, k) * rate**k * (1 - rate) ** (trials - k)
            for k in range(trials + 1)
        ]
    )


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


def test_wilson_covers_95_percent_on_average_and_less_near_the_ends() -> None:
    rates = np.linspace(0.005, 0.995, 199)
    for trials, least in ((24, 0.887), (100, 0.910)):
        bounds = np.array([wilson(k, trials) for k in range(trials + 1)])
        covered = [
            chances_of_counts(trials, p)[
                (bounds[:, 0] <= p) & (p <= bounds[:, 1])
            ].sum()
            for p in rates
        ]
        assert np.mean(covered) == pytest.approx(0.952, abs=0.003)
        assert min(covered) == pytest.approx(least, abs=0.001)
        assert rates[np.argmin(covered)] < 0.1 or rates[np.argmin(covered)] > 0.9


@pytest.mark.parametrize(
    ("rate_a", "rate_b", "expected"),
    [
        (0.02, 0.02, 1.000),
        (0.1, 0.1, 0.974),
        (0.5, 0.5, 0.940),
        (0.1, 0.3, 0.961),
        (0.2, 0.8, 0.948),
    ],
)
def test_newcombe_covers_95_percent_or_more_but_for_a_point(
    rate_a: float, rate_b: float, expected: float
) -> None:
    trials = 24
    bounds = newcombe_of_all_outcomes(trials)
    outcomes = np.outer(
        chances_of_counts(trials, rate_a), chances_of_counts(trials, rate_b)
    )
    truth = rate_a - rate_b
    covered = (bounds[..., 0] <= truth) & (truth <= bounds[..., 1])
    assert outcomes[covered].sum() == pytest.approx(expected, abs=0.001)


def newcombe_of_all_outcomes(trials: int) -> np.ndarray:
    """Low and high by the successes of both, shape ``(trials + 1, trials + 1, 2)``."""
    counts = range(trials + 1)
    return np.array([[newcombe(i, trials, j, trials) for j in counts] for i in counts])


@pytest.mark.parametrize("size", [1, 3, 4, 8, 9, 11])
def test_interquartile_mean_leaves_out_a_quarter_at_each_end(size: int) -> None:
    values = np.random.default_rng(size).normal(size=(2, size))
    for row, found in zip(values, interquartile_mean(values), strict=True):
        kept = sorted(row)[int(size * 0.25) : size - int(size * 0.25)]
        assert found == pytest.approx(sum(kept) / len(kept))


def test_interquartile_mean_of_ten_squares() -> None:
    # scipy.stats.trim_mean(np.arange(10) ** 2, 0.25), SciPy 1.18.
    assert interquartile_mean(np.arange(10) ** 2) == pytest.approx(139 / 6)


def test_an_estimate_weighs_seeds_then_tasks_equally() -> None:
    groups = {
        # Seeds of 3 and 1 episodes: means 2 and 10, so 6, not 16 / 4.
        "1-1": [np.array([1, 2, 3]), np.array([10])],
        "1-2": [np.array([0, 4])],
    }
    assert estimate(groups, mean) == 4
    assert estimate(groups, median) == 4
    assert seeds_of(groups) == 1


def test_bootstrap_of_two_values_spans_the_four_possible_resamples() -> None:
    # The resamples of (0, 1) have means 0, 1/2, 1/2 and 1, each with chance 1/4, so
    # both tails of 2.5 % lie in an outer one.
    interval = bootstrap(
        {"": [np.array([0, 1])]}, mean, 2_000, np.random.default_rng(1)
    )
    assert interval == (0.0, 1.0)


@pytest.mark.parametrize("statistic", [mean, median, interquartile_mean])
def test_bootstrap_agrees_with_all_resamples_of_five_values(
    statistic: Statistic,
) -> None:
    values = np.array([1.0, 2, 4, 8, 16])
    every = [statistic(np.array(resample)) for resample in product(values, repeat=5)]
    # With n = 5 the tails are cut at the normal quantile of t * sqrt(5 / 4), with
    # t = 2.7764 of 4 degrees of freedom.
    tail = NormalDist().cdf(-2.7764 * sqrt(5 / 4))
    interval = bootstrap({"": [values]}, statistic, 40_000, np.random.default_rng(1))
    expected = np.quantile(every, (tail, 1 - tail))
    assert interval == pytest.approx(expected, abs=0.41)


def test_bootstrap_agrees_with_the_normal_interval_of_a_large_sample() -> None:
    # The values 0 to 999 have the variance (1000**2 - 1) / 12, so the mean's standard
    # error is 9.13 and its interval 499.5 +- 17.9.
    groups = {"": [np.arange(1_000)]}
    interval = bootstrap(groups, mean, 4_000, np.random.default_rng(1))
    assert interval == pytest.approx((481.6, 517.4), abs=1.5)


def test_bootstrap_is_stratified_by_task() -> None:
    # Half as wide as above: the other task's values are equal, and count half.
    groups = {"1-1": [np.arange(1_000)], "1-2": [np.full(30, 100.0)]}
    interval = bootstrap(groups, mean, 4_000, np.random.default_rng(1))
    assert interval == pytest.approx((290.8, 308.7), abs=0.8)


def test_bootstrap_of_a_difference_adds_the_variances() -> None:
    # As above with both groups: standard error 9.13 * sqrt(2) = 12.9.
    values = np.arange(1_000)
    rng = np.random.default_rng(1)
    a, b = {"": [values + 100]}, {"": [values]}
    interval = bootstrap_difference(a, b, mean, 4_000, rng)
    assert interval == pytest.approx((74.7, 125.3), abs=2.0)


def test_bootstrap_in_chunks_has_as_many_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    groups = {"": [np.arange(100)]}
    whole = bootstrap(groups, mean, 2_001, np.random.default_rng(1))
    monkeypatch.setattr(inference, "_CHUNK", 1_000)
    chunked = bootstrap(groups, mean, 2_001, np.random.default_rng(1))
    assert chunked == pytest.approx(whole, abs=0.5)


def test_bootstrap_depends_on_nothing_but_the_generator() -> None:
    groups = {"": [np.arange(20) ** 2]}

    def bounds(seed: int) -> tuple[float, float]:
        return bootstrap(groups, mean, 200, np.random.default_rng(seed))

    assert bounds(1) == bounds(1)
    assert bounds(1) != bounds(2)


def test_several_seeds_get_the_t_interval_of_a_value_each() -> None:
    # scipy.stats.ttest_1samp([1200, 1500, 900], 0).confidence_interval(), SciPy 1.18.
    # How many episodes each seed played does not matter.
    seeds = [np.array([1100, 1300]), np.array([1500]), np.array([900, 900, 900])]
    interval = bootstrap({"1-1": seeds}, mean, 1, np.random.default_rng(1))
    assert interval == pytest.approx((454.7587, 1945.2413), rel=1e-4)


def test_a_difference_of_several_seeds_is_welchs() -> None:
    # scipy.stats.ttest_ind([1200, 1500, 900], [600, 800, 700, 1100], equal_var=False)
    # has 3.5047 degrees of freedom and this confidence interval.
    a = {"1-1": [np.full(5, x) for x in (1200, 1500, 900)]}
    b = {"1-1": [np.full(7, x) for x in (600, 800, 700, 1100)]}
    interval = bootstrap_difference(a, b, mean, 1, np.random.default_rng(1))
    assert interval == pytest.approx((-199.7707, 999.7707), rel=1e-4)


def test_seeds_against_one_agent_count_its_episodes() -> None:
    # The agent's mean of 0 to 99 has the standard error 28.87 / 10 of a resample. The
    # seeds are equal, so all freedom is the agent's: t = 1.984 of 99 degrees.
    a, b = {"": [np.full(5, 80.0)] * 3}, {"": [np.arange(100)]}
    interval = bootstrap_difference(a, b, mean, 4_000, np.random.default_rng(1))
    half = 1.984 * 2.887
    assert interval == pytest.approx((30.5 - half, 30.5 + half), abs=0.2)


def test_one_seeds_success_is_wilsons_and_newcombes() -> None:
    a, b = np.repeat([1, 0], [56, 14]), np.repeat([True, False], [48, 32])
    assert success_interval({"1-1": [a]}) == wilson(56, 70)
    difference = success_difference({"1-1": [a]}, {"1-1": [b]})
    assert difference == pytest.approx(newcombe(56, 70, 48, 80))


def test_seeds_that_differ_leave_few_effective_trials() -> None:
    # Rates of 0.5, 0.7 and 0.9 have a variance of 0.04, their mean 0.01333, which is
    # that of 0.7 * 0.3 / 0.01333 = 15.75 trials. Wilson's formula with t = 4.3027.
    seeds = [np.repeat([1, 0], [k, 100 - k]) for k in (50, 70, 90)]
    assert success_interval({"": seeds}) == pytest.approx((0.23818, 0.94569), abs=2e-5)


def test_seeds_that_agree_count_their_episodes() -> None:
    # Wilson's formula of 0.7 in 300 trials with t = 4.3027: centre 0.68837, and
    # sqrt(0.06171 * (0.21 + 0.06171 / 4)) / 1.06171.
    seeds = [np.repeat([1, 0], [70, 30])] * 3
    assert success_interval({"": seeds}) == pytest.approx((0.57728, 0.79946), abs=2e-5)


def test_of_seeds_that_always_succeed_each_counts_as_one_trial() -> None:
    # t / n = 4.3027**2 / 3 = 6.171, so the low bound is 1 / 7.171.
    low, high = success_interval({"": [np.ones(100)] * 3})
    assert (low, high) == pytest.approx((0.13945, 1), abs=2e-5)


def test_success_over_tasks_adds_the_squares_of_the_arms() -> None:
    a, b = np.repeat([1, 0], [8, 2]), np.repeat([1, 0], [3, 17])
    first, second = wilson(8, 10), wilson(3, 20)
    centre = (0.8 + 0.15) / 2
    low = centre - sqrt((0.8 - first.low) ** 2 + (0.15 - second.low) ** 2) / 2
    high = centre + sqrt((first.high - 0.8) ** 2 + (second.high - 0.15) ** 2) / 2
    interval = success_interval({"1-1": [a], "1-2": [b]})
    assert interval == pytest.approx((low, high))


def test_a_profile_has_the_share_and_its_interval_at_each_threshold() -> None:
    band = profile_band([np.array([10, 20, 30, 30])], np.array([0, 20, 25, 31]))
    assert band.share.tolist() == [1, 0.75, 0.5, 0]
    for k, low, high in zip((4, 3, 2, 0), band.low, band.high, strict=True):
        assert (low, high) == wilson(k, 4)
    seeds = [np.arange(10), np.arange(5, 15)]
    band = profile_band(seeds, np.array([7]))
    assert band.share.tolist() == [pytest.approx((0.3 + 0.8) / 2)]
    reached = success_interval({"": [values >= 7 for values in seeds]})
    assert (band.low[0], band.high[0]) == reached


def test_improvement_counts_won_pairs_and_half_the_ties() -> None:
    # Of the pairs of (1, 2, 3) and (2, 2, 0), 1 wins 1, 2 wins 1 and ties 2, 3 wins 3.
    a, b = np.array([1, 2, 3]), np.array([2, 2, 0])
    assert probability_of_improvement({"": [a]}, {"": [b]}) == pytest.approx(6 / 9)
    # With a second seed of b, which a always beats, and a second task, always lost.
    beaten = np.array([-1])
    a = {"1-1": [a], "1-2": [beaten]}
    b = {"1-1": [b, beaten], "1-2": [np.array([7, 7])]}
    assert probability_of_improvement(a, b) == pytest.approx((5 / 6 + 0) / 2)


def test_an_improvement_interval_has_delongs_variance() -> None:
    # The chances of 1, 3, 5 against (2, 2, 4, 4) are 0, 1/2, 1, variance 1/4; those of
    # the four are 2/3, 2/3, 1/3, 1/3, variance 1/27. Together 1/12 + 1/108 = 5/54, of
    # 2.45 degrees of freedom. 0.25 / (5/54) = 2.7 trials are below 2 * 3.
    a, b = np.array([1, 3, 5]), np.array([2, 2, 4, 4])
    freedom = (5 / 54) ** 2 / ((1 / 12) ** 2 / 2 + (1 / 108) ** 2 / 3)
    spread = stdtrit(freedom, 0.975) ** 2 / 2.7
    half = sqrt(spread * (0.25 + spread / 4)) / (1 + spread)
    interval = improvement_interval({"": [a]}, {"": [b]})
    assert interval == pytest.approx((0.5 - half, 0.5 + half))


def test_an_improvement_of_all_pairs_is_not_certain() -> None:
    # 3.84 / (20 + 3.84) = 0.1611 of Wilson's interval of 0 in 20 may still be lost.
    low, middle = {"": [np.zeros(20)]}, {"": [np.full(30, 5.0)]}
    won, lost = improvement_interval(middle, low), improvement_interval(low, middle)
    assert won == pytest.approx((0.8389, 1), abs=1e-4)
    assert lost == pytest.approx((0, 0.1611), abs=1e-4)
    tied = improvement_interval(low, low)
    assert tied == pytest.approx((0.5 - 0.0806, 0.5 + 0.0806), abs=1e-4)
    # Three seeds each: what counts is the seeds.
    a, b = {"": [np.full(100, 5.0)] * 3}, {"": [np.zeros(100)] * 3}
    assert improvement_interval(a, b) == pytest.approx((1 - 0.5615, 1), abs=1e-4)


@pytest.mark.parametrize(
    ("a", "b", "p"),
    [
        # scipy.stats.mannwhitneyu(a, b, method="exact"), SciPy 1.18.
        ([1, 2, 4, 7, 11], [3, 8, 9, 10, 12, 15], 0.125541),
        # method="asymptotic", with ties.
        (np.arange(30) % 7, np.arange(25) % 9, 0.204217),
        # The smallest of three seeds each: 2 of 20 splits.
        ([4, 5, 6], [1, 2, 3], 0.1),
        ([5] * 3, [5] * 4, 1),
        ([5] * 30, [5] * 40, 1),
    ],
)
def test_mann_whitney_agrees_with_scipy(a: list, b: list, p: float) -> None:
    assert mann_whitney(np.array(a), np.array(b)) == pytest.approx(p, abs=1e-6)
    assert mann_whitney(np.array(b), np.array(a)) == pytest.approx(p, abs=1e-6)


def test_mann_whitney_counts_all_splits_with_ties() -> None:
    together = np.array([1, 1, 2, 2, 2, 3, 4, 4, 9])
    size = 4

    def distance(chosen: Sequence[int]) -> float:
        a = together[list(chosen)]
        b = np.delete(together, list(chosen))
        won = (a[:, None] > b).sum() + (a[:, None] == b).sum() / 2
        return abs(won - size * len(b) / 2)

    every = [distance(c) for c in combinations(range(len(together)), size)]
    for chosen in ((0, 1, 2, 3), (0, 2, 6, 8), (5, 6, 7, 8)):
        expected = np.mean([d >= distance(chosen) for d in every])
        found = mann_whitney(together[list(chosen)], np.delete(together, chosen))
        assert found == pytest.approx(expected)


def test_mann_whitney_changes_little_where_it_begins_to_approximate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, b = np.arange(20) % 6, np.arange(20) % 8 + 1
    exact = mann_whitney(a, b)
    monkeypatch.setattr(inference, "_EXACT", 39)
    assert mann_whitney(a, b) == pytest.approx(exact, abs=0.005)


@pytest.mark.parametrize(
    ("counts", "p"),
    [
        # The lady who tasted tea: 2 * (1 + 16) / 70.
        ((3, 4, 1, 4), 34 / 70),
        # scipy.stats.fisher_exact, SciPy 1.18.
        ((8, 10, 1, 6), 0.0349650),
        ((56, 70, 48, 80), 0.0125211),
        ((5, 56, 0, 29), 0.1606214),
        ((0, 10, 0, 20), 1),
        ((7, 7, 5, 5), 1),
    ],
)
def test_fisher_agrees_with_scipy(counts: tuple[int, int, int, int], p: float) -> None:
    assert fisher(*counts) == pytest.approx(p, abs=1e-7)


def test_fisher_never_rejects_equal_rates_too_often() -> None:
    trials, counts = 24, range(25)
    rejects = np.array(
        [[fisher(i, trials, j, trials) <= 0.05 for j in counts] for i in counts]
    )
    for rate, expected in ((0.05, 0.004), (0.3, 0.026), (0.5, 0.029)):
        chances = chances_of_counts(trials, rate)
        found = np.outer(chances, chances)[rejects].sum()
        assert found == pytest.approx(expected, abs=0.001)


def test_holm_multiplies_by_the_comparisons_that_remain() -> None:
    # Sorted: 0.005 * 4, 0.01 * 3, 0.03 * 2, 0.04 * 1, and none below the one before.
    adjusted = holm([0.01, 0.04, 0.03, 0.005])
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1, 1]
    assert holm([]) == []


@pytest.mark.parametrize("rate", [0, 0.05, 0.23, 0.5, 0.9, 1])
@pytest.mark.parametrize("trials", [24, 50])
def test_a_detectable_difference_is_found_as_often_as_asked(
    rate: float, trials: int
) -> None:
    other = detectable_difference(rate, trials)
    other = rate + other if rate <= 0.5 else rate - other
    bounds = newcombe_of_all_outcomes(trials)
    outcomes = np.outer(
        chances_of_counts(trials, rate), chances_of_counts(trials, other)
    )
    excludes_0 = (bounds[..., 0] > 0) | (bounds[..., 1] < 0)
    assert 0.735 <= outcomes[excludes_0].sum() <= 0.85


def test_what_can_be_detected() -> None:
    # By the normal approximation (1.96 + 0.8416) * sqrt(2 * 0.25 / 400) = 0.099.
    assert detectable_difference(0.45, 400) == pytest.approx(0.099, abs=0.001)
    assert detectable_difference(0.7, 50) == pytest.approx(
        detectable_difference(0.3, 50)
    )
    assert detectable_difference(0.3, 50, 0.9) > detectable_difference(0.3, 50)
    assert detectable_difference(0.5, 5) == inf
    # (1.96 + 0.8416) * sqrt(2 / 200) = 0.2802 standard deviations.
    assert detectable_mean_difference(10, 200) == pytest.approx(2.802, abs=0.02)
    assert detectable_mean_difference(0, 2) == 0


@pytest.mark.parametrize(("n", "expected"), [(3, 0.77), (10, 0.81)])
def test_a_detectable_mean_difference_is_found_as_often_as_asked(
    n: int, expected: float
) -> None:
    rng, repeats = np.random.default_rng(n), 300
    difference = detectable_mean_difference(1, n)
    found = 0
    for _ in range(repeats):
        a, b = rng.normal(size=(n, 1)) + difference, rng.normal(size=(n, 1))
        low, _ = bootstrap_difference({"": list(a)}, {"": list(b)}, mean, 1, rng)
        found += low > 0
    assert found / repeats == pytest.approx(expected, abs=0.06)


NO_VALUES = {"1-1": [np.array([])]}
ONE_VALUE = {"1-1": [np.array([1.0])]}
FINE = {"1-1": [np.array([1.0, 0.0])]}
RNG = np.random.default_rng(1)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: interquartile_mean(np.array([])), "at least one value, got 0"),
        (lambda: median(np.array([1, nan])), "finite values, got nan"),
        (lambda: estimate({}, mean), "at least one task, got 0"),
        (lambda: estimate({"1-1": []}, mean), "at least one seed in task 1-1, got 0"),
        (lambda: estimate(NO_VALUES, mean), "at least one value in task 1-1, got 0"),
        (lambda: estimate({"1-1": [np.ones((2, 3))]}, mean), r"of shape \(2, 3\)"),
        (lambda: seeds_of(NO_VALUES), "at least one value in task 1-1"),
        (lambda: bootstrap(NO_VALUES, mean, 9, RNG), "at least one value in task 1-1"),
        (lambda: bootstrap(FINE, mean, 0, RNG), "at least one sample, got 0"),
        (lambda: bootstrap(ONE_VALUE, mean, 9, RNG), "in task 1-1, got one episode"),
        (
            lambda: bootstrap({"1-1": [np.array([1, inf])]}, mean, 9, RNG),
            "finite values in task 1-1, got inf",
        ),
        (
            lambda: bootstrap_difference(FINE, {"1-2": [np.ones(2)]}, mean, 9, RNG),
            r"same tasks, got \['1-1'\] and \['1-2'\]",
        ),
        (
            lambda: bootstrap_difference(FINE, ONE_VALUE, mean, 9, RNG),
            "in task 1-1, got one episode",
        ),
        (lambda: success_interval({}), "at least one task, got 0"),
        (lambda: success_interval({"": [np.array([1, 0.5])]}), "is 1 or 0, got 0.5"),
        (lambda: success_difference(FINE, {}), "at least one task, got 0"),
        (lambda: profile_band([], np.array([1])), "at least one seed, got 0"),
        (lambda: profile_band([np.array([nan])], np.array([1])), "finite values"),
        (lambda: probability_of_improvement(FINE, NO_VALUES), "at least one value"),
        (lambda: improvement_interval(FINE, ONE_VALUE), "got one episode"),
        (lambda: mann_whitney(np.array([]), np.ones(3)), "at least one value, got 0"),
        (lambda: mann_whitney(np.ones(3), np.array([nan])), "finite values, got nan"),
        (lambda: fisher(3, 2, 1, 2), "3 successes in 2 trials is no proportion"),
        (lambda: holm([0.5, nan]), "between 0 and 1, got nan"),
        (lambda: holm([1.1]), "between 0 and 1, got 1.1"),
        (lambda: detectable_difference(1.5, 10), "between 0 and 1, got 1.5"),
        (lambda: detectable_difference(0.5, 0), "at least one trial, got 0"),
        (lambda: detectable_difference(0.5, 10, 1), "power .* below 1, got 1"),
        (lambda: detectable_mean_difference(nan, 10), "and finite, got nan"),
        (lambda: detectable_mean_difference(1, 1), "two values each, got 1"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    call: Callable[[], object], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("statistic", [mean, median, interquartile_mean])
def test_a_bootstrap_of_clumped_episodes_covers(statistic: Statistic) -> None:
    rng, truth = np.random.default_rng(1), truth_of(MIDDLE, statistic)
    found = coverage(
        truth, lambda: bootstrap({"": play(MIDDLE, rng)}, statistic, 200, rng), 150
    )
    assert found >= 0.91


def test_a_bootstrap_of_a_difference_covers() -> None:
    rng, truth = np.random.default_rng(1), truth_of(GOOD, mean) - truth_of(MIDDLE, mean)

    def make() -> Interval:
        a, b = {"": play(GOOD, rng)}, {"": play(MIDDLE, rng)}
        return bootstrap_difference(a, b, mean, 200, rng)

    assert coverage(truth, make, 150) >= 0.91


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_an_interval_of_seeds_that_differ_covers(seeds: int) -> None:
    rng = np.random.default_rng(seeds)

    def make() -> Interval:
        agents = rng.dirichlet(5 * MIDDLE, size=seeds)
        return bootstrap({"": play(agents, rng)}, mean, 1, rng)

    assert coverage(truth_of(MIDDLE, mean), make, 150) >= 0.90


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_an_interval_of_the_success_of_seeds_covers(seeds: int) -> None:
    rng = np.random.default_rng(seeds)

    def make() -> Interval:
        return success_interval({"": flip(rng.beta(9, 1, seeds), rng)})

    assert coverage(0.9, make, 150) >= 0.90


@pytest.mark.parametrize("others", [1, 3])
def test_an_interval_of_improvement_covers(others: int) -> None:
    rng = np.random.default_rng(others)
    truth = chance_of_winning(GOOD, MIDDLE)
    agents = np.tile(GOOD, (others, 1))

    def make() -> Interval:
        a, b = {"": play(agents, rng)}, {"": play(MIDDLE, rng)}
        return improvement_interval(a, b)

    assert coverage(truth, make, 150) >= 0.91


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chances", "episodes", "statistic", "expected"),
    [
        (MIDDLE, 100, mean, 0.94),
        (MIDDLE, 100, interquartile_mean, 0.953),
        (MIDDLE, 100, median, 0.955),
        (WEAK, 100, mean, 0.945),
        (WEAK, 100, median, 1),
        (GOOD, 100, mean, 0.942),
        (WEAK, 24, mean, 0.92),
        (GOOD, 24, mean, 0.94),
        (WEAK, 10, mean, 0.895),
    ],
)
def test_coverage_of_one_agent(
    chances: np.ndarray, episodes: int, statistic: Statistic, expected: float
) -> None:
    rng, truth = np.random.default_rng(1), truth_of(chances, statistic)

    def make() -> Interval:
        return bootstrap({"": play(chances, rng, episodes)}, statistic, 500, rng)

    assert coverage(truth, make, 2_000) == pytest.approx(expected, abs=0.015)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "expected", "of_bootstrap"),
    [(1, None, 0.30), (3, 0.945, 0.76), (5, 0.935, 0.85), (10, 0.94, 0.90)],
)
def test_resampling_a_few_seeds_covers_less_than_student(
    seeds: int, expected: float | None, of_bootstrap: float
) -> None:
    rng, truth = np.random.default_rng(1), truth_of(MIDDLE, mean)

    def agents() -> np.ndarray:
        return np.array(play(rng.dirichlet(5 * MIDDLE, size=seeds), rng))

    def two_levels() -> Interval:
        values = agents()
        drawn = rng.integers(seeds, size=(300, seeds, 1))
        episodes = rng.integers(100, size=(300, seeds, 100))
        means = values[drawn, episodes].mean(axis=(1, 2))
        return Interval(*np.quantile(means, (0.025, 0.975)).tolist())

    def student() -> Interval:
        return bootstrap({"": list(agents())}, mean, 1, rng)

    assert coverage(truth, two_levels, 1_000) == pytest.approx(of_bootstrap, abs=0.035)
    if expected:
        assert coverage(truth, student, 2_000) == pytest.approx(expected, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "expected"), [(3, 0.71), (5, 0.91), (10, 0.94)])
def test_seeds_that_learn_or_do_not_are_covered_less(
    seeds: int, expected: float
) -> None:
    rng = np.random.default_rng(1)
    truth = 0.6 * truth_of(GOOD, mean) + 0.4 * truth_of(WEAK, mean)

    def make() -> Interval:
        agents = np.where(rng.random((seeds, 1)) < 0.6, GOOD, WEAK)
        return bootstrap({"": play(agents, rng)}, mean, 1, rng)

    assert coverage(truth, make, 1_500) == pytest.approx(expected, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds_a", "seeds_b", "least", "most"),
    [(2, 2, 0.94, 0.99), (3, 3, 0.93, 0.98), (10, 10, 0.93, 0.98), (10, 2, 0.86, 0.91)],
)
def test_coverage_of_a_difference_of_seeds(
    seeds_a: int, seeds_b: int, least: float, most: float
) -> None:
    rng, truth = np.random.default_rng(1), truth_of(GOOD, mean) - truth_of(MIDDLE, mean)

    def make() -> Interval:
        a = {"": play(rng.dirichlet(5 * GOOD, size=seeds_a), rng)}
        b = {"": play(rng.dirichlet(5 * MIDDLE, size=seeds_b), rng)}
        return bootstrap_difference(a, b, mean, 1, rng)

    assert least <= coverage(truth, make, 1_500) <= most


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "seeds", "expected"),
    [
        ((9, 1), 2, 1.0),
        ((9, 1), 3, 0.967),
        ((9, 1), 5, 0.934),
        ((2, 2), 3, 0.955),
        ((2, 2), 10, 0.958),
        ((0.5, 2), 3, 0.924),
        ((0.5, 2), 5, 0.924),
        ((0.5, 2), 10, 0.942),
    ],
)
def test_coverage_of_the_success_of_seeds(
    shape: tuple[float, float], seeds: int, expected: float
) -> None:
    rng, truth = np.random.default_rng(1), shape[0] / sum(shape)

    def make() -> Interval:
        return success_interval({"": flip(rng.beta(*shape, seeds), rng)})

    assert coverage(truth, make, 2_000) == pytest.approx(expected, abs=0.018)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds_a", "seeds_b", "expected"), [(3, 3, 0.977), (10, 10, 0.954), (5, 3, 0.972)]
)
def test_coverage_of_a_difference_of_the_success_of_seeds(
    seeds_a: int, seeds_b: int, expected: float
) -> None:
    rng = np.random.default_rng(1)

    def make() -> Interval:
        a = {"": flip(rng.beta(9, 1, seeds_a), rng)}
        return success_difference(a, {"": flip(rng.beta(2, 2, seeds_b), rng)})

    assert coverage(0.4, make, 2_000) == pytest.approx(expected, abs=0.018)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("a", "b", "episodes", "expected"),
    [
        (MIDDLE, MIDDLE, 20, 0.952),
        (MIDDLE, MIDDLE, 100, 0.96),
        (GOOD, MIDDLE, 100, 0.948),
        (GOOD, WEAK, 20, 0.967),
        (GOOD, WEAK, 100, 0.96),
        # Nearly all is won, at 0.994.
        (
            np.array([0.01, 0, 0.01, 0, 0.98]),
            np.array([0.9, 0.09, 0, 0.01, 0]),
            100,
            0.95,
        ),
    ],
)
def test_coverage_of_an_improvement_of_one_agent(
    a: np.ndarray, b: np.ndarray, episodes: int, expected: float
) -> None:
    rng, truth = np.random.default_rng(1), chance_of_winning(a, b)

    def make() -> Interval:
        ours, theirs = {"": play(a, rng, episodes)}, {"": play(b, rng, episodes)}
        return improvement_interval(ours, theirs)

    assert coverage(truth, make, 2_000) == pytest.approx(expected, abs=0.018)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "shift", "expected"),
    [(2, 1, 0.977), (3, 1, 0.962), (10, 1, 0.95), (3, 3, 0.893), (10, 3, 0.913)],
)
def test_coverage_of_an_improvement_of_seeds(
    seeds: int, shift: float, expected: float
) -> None:
    rng = np.random.default_rng(1)
    # Seeds and episodes have the variance 1, so a difference of two episodes has 4.
    truth = NormalDist().cdf(shift / 2)

    def agents(centre: float) -> list[np.ndarray]:
        return list(centre + rng.normal(size=(seeds, 1)) + rng.normal(size=(seeds, 50)))

    def make() -> Interval:
        return improvement_interval({"": agents(shift)}, {"": agents(0)})

    assert coverage(truth, make, 800) == pytest.approx(expected, abs=0.03)
