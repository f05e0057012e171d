"""What episode tables say of agents and recipes, and of two of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from warpzone.episodes.statistics import Interval
from warpzone.episodes.table import distinct
from warpzone.report.inference import (
    Groups,
    Statistic,
    bootstrap,
    bootstrap_difference,
    estimate,
    fisher,
    improvement_interval,
    interquartile_mean,
    mann_whitney,
    mean,
    median,
    probability_of_improvement,
    profile_band,
    success_difference,
    success_interval,
)

type Played = Mapping[str, Sequence[pd.DataFrame]]
"""By task, an episode table for each training seed: one for a single agent."""
type Metrics = dict[str, Any]
"""By name; None where a number cannot be."""

_STATISTICS: Mapping[str, Statistic] = {
    "mean": mean,
    "median": median,
    "iqm": interquartile_mean,
}


def summarise(
    played: Played,
    causes: Sequence[str],
    frames_per_second: int,
    samples: int,
    rng: np.random.Generator,
) -> Metrics:
    """Return what an agent or a recipe reached, with intervals ``_low`` to ``_high``.

    Episodes that coincide count once; ``episodes`` says how many were played, and
    ``distinct_episodes`` how many different ones there were. Seeds, then tasks, have
    the same weight. For the intervals see `inference.success_interval` and
    `inference.bootstrap`; one that cannot be is None. ``success_seconds_median`` is of
    the game's time, None without a success.
    """
    tables = [table for seeds in played.values() for table in seeds]
    together = pd.concat(map(distinct, tables))
    successes, progress = _values(played, "success"), _values(played, "progress")
    won = together.loc[together["success"], "emulator_frames"].to_numpy()
    ended = together["cause"].tolist()
    metrics: Metrics = {
        "episodes": sum(map(len, tables)),
        "distinct_episodes": len(together),
        "seeds": max(map(len, played.values())),
        **_bounded(
            "success_rate",
            estimate(successes, mean),
            lambda: success_interval(successes),
        ),
    }
    for name, statistic in _STATISTICS.items():
        metrics |= _bounded(
            f"progress_{name}",
            estimate(progress, statistic),
            lambda s=statistic: bootstrap(progress, s, samples, rng),
        )
    return metrics | {
        "success_seconds_median": (
            _rounded(float(np.median(won)) / frames_per_second) if len(won) else None
        ),
        "agent_steps_mean": _rounded(estimate(_values(played, "agent_steps"), mean)),
        "episode_return_mean": _rounded(
            estimate(_values(played, "episode_return"), mean)
        ),
        **{f"ended_by_{cause}": ended.count(cause) for cause in causes},
    }


def contrast(a: Played, b: Played, samples: int, rng: np.random.Generator) -> Metrics:
    """Return how two agents or recipes differ, a minus b.

    With intervals ``_low`` to ``_high``. ``improvement`` is the probability that an
    episode of a gets further than one of b. ``success_p`` and ``progress_p`` are p
    values: Fisher's and Mann and Whitney's test of the episodes of two agents on one
    task; of recipes with several seeds, Mann and Whitney's of one value a seed. They
    are None where neither can be. The evaluation seeds are the same, but two agents
    part ways after the first decisions, so the episodes count as independent.
    """
    metrics: Metrics = {}
    ours, theirs = _values(a, "success"), _values(b, "success")
    metrics |= _bounded(
        "success_rate",
        estimate(ours, mean) - estimate(theirs, mean),
        lambda: success_difference(ours, theirs),
    )
    further, others = _values(a, "progress"), _values(b, "progress")
    for name, statistic in _STATISTICS.items():
        metrics |= _bounded(
            f"progress_{name}",
            estimate(further, statistic) - estimate(others, statistic),
            lambda s=statistic: bootstrap_difference(further, others, s, samples, rng),
        )
    metrics |= _bounded(
        "improvement",
        probability_of_improvement(further, others),
        lambda: improvement_interval(further, others),
    )
    seeds = [len(tables) for played in (a, b) for tables in played.values()]
    success_p = progress_p = None
    if min(seeds) > 1:
        success_p = mann_whitney(_by_seed(ours), _by_seed(theirs))
        progress_p = mann_whitney(_by_seed(further), _by_seed(others))
    elif len(a) == max(seeds) == 1:
        [[won]], [[lost]] = ours.values(), theirs.values()
        success_p = fisher(int(won.sum()), len(won), int(lost.sum()), len(lost))
        [[won]], [[lost]] = further.values(), others.values()
        progress_p = mann_whitney(won, lost)
    return metrics | {"success_p": success_p, "progress_p": progress_p}


def profile(tables: Sequence[pd.DataFrame], step: int) -> pd.DataFrame:
    """Return the share of a task's episodes that got at least so far, with a band.

    In columns ``progress`` (0, ``step``, ... up to the first that nobody reached),
    ``share``, ``share_low`` and ``share_high``. ``tables`` has one a training seed.
    """
    furthest = [distinct(table)["progress"].to_numpy() for table in tables]
    most = max(values.max() for values in furthest)
    progress = np.arange(0, most + step + 1, step)
    share, low, high = profile_band(furthest, progress)
    return pd.DataFrame(
        {"progress": progress, "share": share, "share_low": low, "share_high": high}
    )


def _values(played: Played, column: str) -> Groups:
    return {
        task: [distinct(table)[column].to_numpy(float) for table in tables]
        for task, tables in played.items()
    }


def _by_seed(groups: Groups) -> np.ndarray:
    """Return a value a seed: the mean over its tasks."""
    seeds = zip(*groups.values(), strict=True)
    return np.array([np.mean([values.mean() for values in of]) for of in seeds])


def _bounded(name: str, value: float, interval: Callable[[], Interval]) -> Metrics:
    try:
        low, high = map(_rounded, interval())
    except ValueError:
        # A single episode.
        low = high = None
    return {name: _rounded(value), f"{name}_low": low, f"{name}_high": high}


def _rounded(value: float | np.floating) -> float:
    return round(float(value), 4)
