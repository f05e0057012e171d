"""What tables say: counted by hand, with seeds and tasks kept apart."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest

from warpzone.envs.registry import env_class
from warpzone.episodes.statistics import wilson
from warpzone.episodes.table import causes_of, distinct
from warpzone.report.findings import (
    Metrics,
    Played,
    contrast,
    profile,
    summarise,
)

MARIO = env_class("mario")

type Episodes = Callable[[str, Sequence[int]], pd.DataFrame]


def said(played: Played) -> Metrics:
    rng = np.random.default_rng(1)
    return summarise(played, causes_of(MARIO), 60, 1_000, rng)


def test_metrics_are_counted_from_the_table(episodes: Episodes) -> None:
    metrics = said({"1-1": [episodes("cpes", [3000, 1000, 400, 600])]})
    assert (metrics["episodes"], metrics["distinct_episodes"]) == (4, 4)
    assert metrics["seeds"] == 1
    assert metrics["success_rate"] == 0.25
    # Wilson's interval of 1 in 4, by its formula with z = 1.96.
    assert metrics["success_rate_low"] == pytest.approx(0.0456, abs=1e-4)
    assert metrics["success_rate_high"] == pytest.approx(0.6994, abs=1e-4)
    assert metrics["progress_mean"] == 1250
    low, high = metrics["progress_mean_low"], metrics["progress_mean_high"]
    assert low is not None
    assert high is not None
    assert low < 1250 < high
    assert metrics["progress_median"] == 800
    # 400 and 3000 are left out.
    assert metrics["progress_iqm"] == 800
    # The first episode has 40 frames of 60 a second.
    assert metrics["success_seconds_median"] == round(40 / 60, 4)
    assert metrics["agent_steps_mean"] == 25
    # Half of (3000 + 1000 + 400 + 600) / 4.
    assert metrics["episode_return_mean"] == 625
    ended = {name: n for name, n in metrics.items() if name.startswith("ended_by_")}
    assert ended == {
        "ended_by_clear": 1,
        "ended_by_pit": 1,
        "ended_by_enemy": 1,
        "ended_by_clock": 0,
        "ended_by_left_level": 0,
        "ended_by_stuck": 1,
        "ended_by_time_limit": 0,
    }


def test_without_a_success_there_is_no_time_to_one(episodes: Episodes) -> None:
    metrics = said({"1-1": [episodes("pp", [10, 20])]})
    assert metrics["success_seconds_median"] is None


def test_episodes_that_coincide_count_once(episodes: Episodes) -> None:
    table = episodes("cccp", [3000, 3000, 3000, 400])
    table.loc[1:2, "log_sha256"] = table["log_sha256"][0]
    assert len(distinct(table)) == 2
    metrics = said({"1-1": [table]})
    assert (metrics["episodes"], metrics["distinct_episodes"]) == (4, 2)
    assert metrics["success_rate"] == 0.5
    assert metrics["ended_by_clear"] == 1


def test_the_same_buttons_on_another_level_are_another_episode(
    episodes: Episodes,
) -> None:
    table = episodes("cc", [3000, 3000]).assign(log_sha256="0", level=["1-1", "1-2"])
    assert len(distinct(table)) == 2


def test_one_episode_has_no_interval_of_its_distance(episodes: Episodes) -> None:
    table = episodes("ccc", [3000] * 3).assign(log_sha256="0")
    metrics = said({"1-1": [table]})
    assert metrics["distinct_episodes"] == 1
    assert metrics["progress_mean"] == 3000
    assert metrics["progress_mean_low"] is metrics["progress_mean_high"] is None
    # A single trial.
    bounds = metrics["success_rate_low"], metrics["success_rate_high"]
    assert bounds == pytest.approx(tuple(wilson(1, 1)), abs=1e-4)


def test_seeds_then_tasks_weigh_the_same(episodes: Episodes) -> None:
    easy = [episodes("cc", [100, 100]), episodes("cp", [100, 50])]
    hard = [episodes("pppp", [10, 20, 30, 40])]
    metrics = said({"easy": easy, "hard": hard})
    assert metrics["seeds"] == 2
    # (1 + 1/2) / 2 and 0.
    assert metrics["success_rate"] == 0.375
    # (100 + 75) / 2 and 25.
    assert metrics["progress_mean"] == pytest.approx((87.5 + 25) / 2)


def against(a: Played, b: Played) -> Metrics:
    return contrast(a, b, 1_000, np.random.default_rng(1))


def test_a_contrast_is_a_minus_b(episodes: Episodes) -> None:
    a, b = episodes("cccp", [3000] * 4), episodes("ppps", [1000] * 4)
    difference = against({"1-1": [a]}, {"1-1": [b]})
    assert difference["success_rate"] == 0.75
    # Newcombe's method 10 of 3 in 4 and 0 in 4: their Wilson intervals are 0.3006 to
    # 0.9544 and 0 to 0.4899, so 0.75 - sqrt(0.4494**2 + 0.4899**2) to
    # 0.75 + sqrt(0.2044**2 + 0**2).
    assert difference["success_rate_low"] == pytest.approx(0.0852, abs=2e-4)
    assert difference["success_rate_high"] == pytest.approx(0.9544, abs=2e-4)
    # All distances are equal, so resampling moves nothing.
    bounds = ("progress_mean_low", "progress_mean", "progress_mean_high")
    assert [difference[name] for name in bounds] == [2000, 2000, 2000]
    assert difference["improvement"] == 1
    # Of 70 ways to share out 8 episodes, 2 lie as far apart; of the 70 with 3
    # successes among them, 8 have all of them on one side.
    assert difference["progress_p"] == pytest.approx(2 / 70)
    assert difference["success_p"] == pytest.approx(8 / 56)


def test_recipes_are_held_against_each_other_by_a_value_a_seed(
    episodes: Episodes,
) -> None:
    a = [episodes("cc", [300 + i, 310 + i]) for i in range(4)]
    b = [episodes("pp", [100 + i, 110 + i]) for i in range(4)]
    difference = against({"1-1": a}, {"1-1": b})
    # 4 seeds against 4, however many episodes they have.
    assert difference["progress_p"] == pytest.approx(2 / 70)
    assert difference["success_p"] == pytest.approx(2 / 70)


def test_one_seed_on_several_tasks_has_no_test(episodes: Episodes) -> None:
    one = {"1-1": [episodes("cp", [9, 8])], "1-2": [episodes("cp", [9, 8])]}
    difference = against(one, one)
    assert difference["success_p"] is difference["progress_p"] is None
    assert difference["success_rate"] == 0


def test_a_profile_is_the_share_that_got_at_least_so_far(episodes: Episodes) -> None:
    curve = profile([episodes("eeec", [10, 20, 30, 30])], step=10)
    assert curve["progress"].tolist() == [0, 10, 20, 30, 40]
    assert curve["share"].tolist() == [1, 1, 0.75, 0.5, 0]
    assert curve["share_low"].tolist()[3] == pytest.approx(wilson(2, 4).low)
