from contextlib import closing
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from warpzone.envs.cartpole import CartPoleEnv
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.replayable import ReplayableEnv
from warpzone.episodes.recording import Recording
from warpzone.episodes.table import row_of
from warpzone.report.level_map import (
    Explored,
    Mark,
    Strip,
    Ways,
    explore,
    level_map,
    stitch,
)


def play(env: ReplayableEnv, seed: int) -> tuple[Recording, dict[str, Any]]:
    """Mostly jump to the right, until the episode ends."""
    rng = np.random.default_rng(seed)
    env.reset(seed=seed)
    jumps, info = False, {}
    while env.cause is None:
        jumps = rng.random() < (0.9 if jumps else 0.15)
        action = len(env.codes) - (1 if jumps else 4)
        *_, info = env.step(max(action, 0) if len(env.codes) > 2 else 1)
    return Recording.of_episode(env, seed), row_of(env, seed, info)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png)).convert("RGB"))


@cache
def strip() -> Strip:
    """Episodes of 1-1, few of which get far."""
    kwargs = {"obs_type": "state", "stuck_limit": 40, "time_limit": 150}
    with closing(MarioEnv("1-1", **kwargs)) as env:  # pyright: ignore[reportArgumentType]
        played = [play(env, seed) for seed in range(12)]
    table = pd.DataFrame([row for _, row in played])
    table["place"] = table["place"].astype("Int64")
    return Strip(table, [recording for recording, _ in played])


@cache
def explored() -> Explored:
    found = explore("1-1", {"random": strip(), "bc": strip()}, sample=2)
    assert found is not None
    return found


def test_pictures_of_different_episodes_agree_and_show_no_player() -> None:
    furthest = strip().table["progress"].to_numpy().argsort()[-2:]
    a, b = (stitch([strip().recordings[int(row)]]) for row in furthest)
    width = min(a.shape[1], b.shape[1])
    assert width > 400
    assert a.shape[0] == 208
    alike = (a[:, :width] == b[:, :width]).all(axis=-1)
    assert alike.mean() > 0.99
    # Seen everywhere, but in a strip that the player never leaves.
    assert a[..., 3].mean() > 0.98 * 255


def test_all_failures_are_where_the_table_says() -> None:
    table, marks = strip().table, explored().ways["bc"].marks
    failed = table[table["cause"].isin(MarioEnv.FAILURES)]
    assert len(failed) > 2
    for cause, of_cause in failed.groupby("cause"):
        drawn = [mark for mark in marks if mark.cause == cause]
        assert sum(mark.episodes for mark in drawn) == len(of_cause)
        middle = sum(mark.x * mark.episodes for mark in drawn) / len(of_cause)
        assert middle == pytest.approx(of_cause["place"].mean())
        for place in of_cause["place"]:
            assert min(abs(mark.x - place) for mark in drawn) <= 96
    assert sum(explored().ways["bc"].causes.values()) == len(table)


def test_ways_begin_where_the_level_does_and_end_where_the_episode_did() -> None:
    for path, row in zip(explored().ways["bc"].paths, (0, 11), strict=True):
        assert path[0].tolist() == [48, 200]
        # Of the middle of the player; progress is that of his left edge.
        assert path[:, 0].max() == pytest.approx(strip().table["progress"][row] + 8, 4)


def test_a_map_has_themes_and_equal_bytes() -> None:
    light = level_map(explored())
    assert level_map(explored()) == light
    assert level_map(explored(), theme="dark") != light
    with pytest.raises(ValueError, match="no theme 'blue'"):
        level_map(explored(), theme="blue")


def tries(*rows: tuple[float, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["progress", "second_tries"])


@pytest.mark.slow
def test_second_tries_are_bars_below_their_agents_strip() -> None:
    without = level_map(explored())
    drawn = level_map(explored(), (), {"bc": tries((160, 3), (176, 1))})
    assert drawn == level_map(explored(), (), {"bc": tries((160, 3), (176, 1))})
    # A strip a row of the level grows, and nothing else.
    (high, wide), (higher, as_wide) = (pixels(p).shape[:2] for p in (without, drawn))
    assert as_wide == wide
    assert higher - high == pytest.approx(2 * 0.24 * 200, abs=2)
    for others in (
        {"random": tries((160, 3), (176, 1))},
        {"bc": tries((176, 3), (192, 1))},
        {"bc": tries((160, 3), (176, 2))},
        {"bc": tries((160, 30), (176, 10))},
    ):
        assert level_map(explored(), (), others) != drawn
    # Nobody, or whom the map does not show.
    for none in ({"bc": tries()}, {"ppo-1": tries((160, 3))}, {}):
        assert level_map(explored(), (), none) == without


def test_a_long_legend_has_a_second_line() -> None:
    def high(*causes: str) -> int:
        marks = [Mark(cause, 100, 100, 1) for cause in causes]
        found = explored()._replace(ways={"bc": Ways([], marks, {})})
        return pixels(level_map(found, (), {"bc": tries((160, 3))})).shape[0]

    assert high("pit", "enemy", "stuck") == high("pit")
    more = high("pit", "enemy", "clock", "left_level", "stuck", "time_limit")
    assert more - high("pit") == pytest.approx(0.2 * 200, abs=2)


def test_a_total_that_does_not_fit_beside_the_outcomes_is_left_out() -> None:
    def drawn(causes: dict[str, int], second_tries: int) -> np.ndarray:
        found = explored()._replace(ways={"bc": Ways([], [], causes)})
        tables = {"bc": tries((160, second_tries))}
        return pixels(level_map(found, (), tables))

    few = {"clear": 1, "pit": 2}
    assert not np.array_equal(drawn(few, 3), drawn(few, 4))
    many = few | dict.fromkeys(("enemy", "clock", "left_level", "stuck"), 100_000_000)
    assert np.array_equal(drawn(many, 3), drawn(many, 4))


def test_bars_stand_where_second_tries_began_and_have_one_scale() -> None:
    """With no episode's mark or way in the agent's colour below the strips."""
    palette = {"a-1": (0xE6, 0x9F, 0x00), "b-1": (0x00, 0x72, 0xB2)}
    found = explored()._replace(ways=dict.fromkeys(palette, Ways([], [], {})))
    columns = -(-found.picture.shape[1] // 16) * 16
    table = {"a-1": tries((160, 8), (320, 4)), "b-1": tries((160, 2))}
    drawn = pixels(level_map(found, (), table, rows=1))
    inch = drawn.shape[1] / 8.3

    def high(agent: str, progress: float) -> int:
        x = round((0.08 + 8.14 * progress / columns) * inch)
        return int((drawn[:, x] == palette[agent]).all(axis=-1).sum())

    # 0.24 inches are 1.2 times the most.
    assert high("a-1", 168) == pytest.approx(0.2 * inch, abs=2)
    assert high("a-1", 328) == pytest.approx(0.1 * inch, abs=2)
    assert high("b-1", 168) == pytest.approx(0.05 * inch, abs=2)
    for beside in (158, 178, 318, 338):
        assert high("a-1", beside) == 0
    assert high("b-1", 328) == 0


def test_agents_of_other_figures_decide_the_colours() -> None:
    assert level_map(explored()) == level_map(explored(), ["random", "bc", "ppo-1"])
    assert level_map(explored()) != level_map(explored(), ["ppo-1", "bc"])


def test_a_world_that_the_screen_shows_whole_has_no_map() -> None:
    with closing(CartPoleEnv()) as env:
        recording, row = play(env, 1)
        level = env.level
    strips = {"bc": Strip(pd.DataFrame([row]), [recording])}
    assert explore(level, strips) is None


def test_what_cannot_be_drawn_is_refused() -> None:
    table, recordings = strip()
    with pytest.raises(ValueError, match="bc: the table has 12 episodes, and the 11"):
        explore("1-1", {"bc": Strip(table, recordings[1:])})
    with pytest.raises(ValueError, match="bc: has no episode on 1-2"):
        explore("1-2", {"bc": strip()})
    with pytest.raises(ValueError, match="a map needs episodes, got 20 of 0 agents"):
        explore("1-1", {})
