"""What a comparison says, of tables whose numbers are counted by hand."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

import pandas as pd
import pytest

from warpzone.core.params import NoiseParams
from warpzone.envs.registry import env_class, make_env
from warpzone.episodes.recording import Recording
from warpzone.report.comparison import Comparison
from warpzone.report.findings import contrast
from warpzone.report.look import Key

type Episodes = Callable[[str, Sequence[int]], pd.DataFrame]
type Compared = Callable[..., Comparison]

CONDITION = {"no_op_max": 30, "sticky_probability": 0.25, "sticky_unit": "frame"}
CONDITION |= {"episodes": 4, "reference": False, "temperature": None}


@pytest.fixture(scope="module")
def recorded() -> Recording:
    """A few agent steps on level 1-1."""
    noise = NoiseParams(no_op_max=0, sticky_probability=0, sticky_unit="frame")
    with closing(make_env("mario", {}, "1-1", noise, "state")) as env:
        env.reset(seed=0)
        for _ in range(5):
            env.step(1)
        return Recording.of_episode(env, 0)


@pytest.fixture
def compared(recorded: Recording) -> Compared:
    def compared(
        tables: Mapping[Key, pd.DataFrame], *pairs: tuple[str, str]
    ) -> Comparison:
        return Comparison(
            world=env_class("mario"),
            conditions={"default": CONDITION},
            tables={"default": tables},
            recordings={
                key: [
                    recorded.model_copy(update={"seed": seed}) for seed in table["seed"]
                ]
                for key, table in tables.items()
            },
            curves={},
            second_tries={},
            confusions={},
            pairs=pairs,
            level="1-1",
            samples=100,
            seed=1,
        )

    return compared


def of_seeds(episodes: Episodes, recipe: str, *played: tuple[str, int]) -> dict:
    """Return tables of a recipe's seeds, all episodes of each equally far."""
    return {
        ("1-1", f"{recipe}-{seed}"): episodes(causes, [x + i for i in range(4)])
        for seed, (causes, x) in enumerate(played, start=1)
    }


def test_recipes_of_several_seeds_meet_once_with_a_value_a_seed(
    episodes: Episodes, compared: Compared
) -> None:
    tables = of_seeds(episodes, "a", ("cccc", 900), ("cccp", 800), ("ccpp", 700))
    tables |= of_seeds(episodes, "b", ("pppp", 300), ("pppp", 200), ("cppp", 100))
    [row] = compared(tables, ("a", "b")).differences
    assert (row["task"], row["a"], row["b"]) == ("1-1", "a", "b")
    # (1 + 3/4 + 1/2) / 3 - (1/4) / 3.
    assert row["success_rate"] == pytest.approx(2 / 3, abs=1e-4)
    assert row["progress_mean"] == 600
    # Of the 20 ways to share out six seeds 2 lie as far apart, 0.1, with Holm's 2. The
    # 24 episodes would say 0.0001.
    assert row["progress_p"] == row["success_p"] == pytest.approx(0.2)


def test_recipes_meet_over_all_tasks_and_agents_in_each(
    episodes: Episodes, compared: Compared
) -> None:
    seeds = of_seeds(episodes, "a", ("cccc", 900), ("cccp", 800))
    seeds |= of_seeds(episodes, "b", ("pppp", 300), ("cppp", 200))
    tables = {
        (task, agent): table.assign(task=task)
        for task in ("1-1", "1-2")
        for (_, agent), table in seeds.items()
    }
    rows = compared(tables, ("a", "b"), ("a-1", "b-1")).differences
    assert [(row["task"], row["a"]) for row in rows] == [
        ("1-1", "a-1"),
        ("1-2", "a-1"),
        ("1-1 and 1-2", "a"),
    ]
    assert [row["success_rate"] for row in rows] == [1, 1, 0.75]
    # Two seeds each, and not four: 2 of 6 ways lie as far apart, and Holm doubles it.
    assert rows[2]["progress_p"] == pytest.approx(4 / 6, abs=1e-5)


def test_an_agent_is_no_recipe_of_the_same_name(
    episodes: Episodes, compared: Compared
) -> None:
    """The recipe ``a-1`` has agents, ``a-1`` is one of the recipe ``a``."""
    tables = of_seeds(episodes, "a", ("cccc", 900))
    tables |= of_seeds(episodes, "a-1", ("pppp", 300))
    tables |= of_seeds(episodes, "b", ("pppp", 100))
    [row] = compared(tables, ("a-1", "b-1")).differences
    assert (row["success_rate"], row["progress_mean"]) == (1, 800)


def test_the_report_says_what_seeds_can_show(
    episodes: Episodes, compared: Compared
) -> None:
    one = compared(of_seeds(episodes, "a", ("cccc", 900)))
    assert "Each recipe has one training seed" in one.power_words()
    several = of_seeds(episodes, "a", ("cccc", 900), ("cccp", 800), ("ccpp", 700))
    words = compared(several).power_words()
    # Rates 1, 3/4 and 1/2 have the standard deviation 1/4; both quantiles of t with 3
    # degrees of freedom are 3.182 and 0.978: 0.25 * 4.16 * sqrt(2 / 3) = 0.85.
    assert "3 seeds that vary like those of a show a difference of 85% or more" in words
    assert "one training seed" not in words


@pytest.mark.slow
def test_where_episodes_coincide_everything_counts_them_once(
    episodes: Episodes, compared: Compared
) -> None:
    once = episodes("ccpps", [3161, 3161, 700, 300, 500])
    twice = pd.concat([once, once.iloc[[2, 2, 3]].assign(seed=[5, 6, 7])])
    tables = [
        {("1-1", "random"): once, ("1-1", "bc"): played}
        for played in (once, twice.reset_index(drop=True))
    ]
    single, several = (compared(of, ("bc", "random")) for of in tables)
    assert several.summaries["default"]["1-1", "bc"]["episodes"] == 8
    assert several.differences == single.differences
    assert several.power_words() == single.power_words()
    assert several.ends_table() == single.ends_table()
    assert len(several.different["1-1", "bc"].recordings) == 5
    # The number of episodes stands beside no other picture.
    ours, theirs = several.pictures("light"), single.pictures("light")
    assert {name for name in ours if ours[name] != theirs[name]} <= {"conditions"}


def test_holms_correction_is_for_all_of_the_table(
    episodes: Episodes, compared: Compared
) -> None:
    tables: dict[Any, Any] = of_seeds(episodes, "a", ("cccc", 900))
    tables |= of_seeds(episodes, "b", ("pppp", 100))
    tables["1-1", "bc"] = episodes("pppp", [100, 101, 102, 103])
    alone = contrast(
        {"1-1": [tables["1-1", "a-1"]]},
        {"1-1": [tables["1-1", "b-1"]]},
        100,
        compared(tables)._rng(),
    )
    rows = compared(tables, ("a-1", "b-1"), ("bc", "b-1")).differences
    # 2 / 70 both times, and 1 both times: the smallest counts four times.
    assert alone["success_p"] == pytest.approx(2 / 70)
    assert rows[0]["success_p"] == pytest.approx(8 / 70, abs=1e-5)
    assert rows[1]["success_p"] == 1
