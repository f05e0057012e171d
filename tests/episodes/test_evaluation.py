import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages import evaluate
from warpzone.core.errors import InputError
from warpzone.core.files import write_csv
from warpzone.core.params import GameParams, NoiseParams, Params, RunsParams
from warpzone.envs.mario.cartridge import make_console
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.mario.level import LevelPlay
from warpzone.envs.mario.state import Address
from warpzone.episodes.agent import RandomAgent
from warpzone.episodes.evaluation import (
    COLUMNS,
    agent_names,
    cause_of_end,
    check_comparable,
    contrast,
    distance_survival,
    play_episodes,
    read_episodes,
    summarise,
)
from warpzone.episodes.recording import read_recordings, replay

RIGHT, RIGHT_A_B = 1, 4
"""Actions of the set ``simple``."""


class Repeat:
    """Does the same few actions over and over."""

    def __init__(self, *actions: int) -> None:
        self.actions = actions
        self.steps = 0

    def act(
        self, observations: np.ndarray, rngs: Sequence[np.random.Generator]
    ) -> np.ndarray:
        action = self.actions[self.steps % len(self.actions)]
        self.steps += 1
        return np.full(len(observations), action)


def episodes(
    causes: str, x_pos_max: Sequence[int], agent: str = "random"
) -> pd.DataFrame:
    """A table with one row a letter: c(lear), p(it), e(nemy) or s(tuck)."""
    words = {"c": "clear", "p": "pit", "e": "enemy", "s": "stuck"}
    rows = [
        {
            **dict.fromkeys(COLUMNS, 0),
            "agent": agent,
            "level": "1-1",
            "seed": seed,
            "cleared": letter == "c",
            "x_pos_max": x,
            "agent_steps": 10 * (seed + 1),
            "death_x": x if letter in "pe" else None,
            "cause": words[letter],
        }
        for seed, (letter, x) in enumerate(zip(causes, x_pos_max, strict=True))
    ]
    return pd.DataFrame(rows).astype(COLUMNS)


@pytest.fixture
def short(game: GameParams) -> GameParams:
    return game.model_copy(update={"time_limit": 40})


def test_rows_and_recordings_follow_the_seeds_and_agree(
    short: GameParams, noise: NoiseParams
) -> None:
    seeds = [5, 3, 8]
    table, recordings = play_episodes(RandomAgent(7), short, noise, seeds, envs=2)
    assert ["agent", *table] == list(COLUMNS)
    assert table["seed"].tolist() == [log.seed for log in recordings] == seeds
    play = LevelPlay(make_console("nes-py"), "1-1")
    for (_, row), recording in zip(table.iterrows(), recordings, strict=True):
        *_, frames = replay(recording, play, "test")
        assert frames == row["emulator_frames"]
        assert play.odometer.x_pos_max == row["x_pos_max"]
        assert len(recording.decided) == row["agent_steps"]


def test_an_episode_depends_on_its_seed_only(
    short: GameParams, noise: NoiseParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, recordings = play_episodes(RandomAgent(7), short, noise, range(5), envs=3)
    assert len({recording.ram_sha256 for recording in recordings}) == 5
    monkeypatch.setattr(os, "process_cpu_count", lambda: 1)
    alone = play_episodes(RandomAgent(7), short, noise, [4, 1], envs=1)
    pd.testing.assert_frame_equal(
        alone[0], table.loc[[4, 1]].reset_index(drop=True), check_exact=True
    )
    assert alone[1] == [recordings[4], recordings[1]]


def test_actions_are_not_drawn_from_the_stream_of_the_noise(
    short: GameParams, noise: NoiseParams
) -> None:
    drawn = []

    class Spy(RandomAgent):
        def act(
            self, observations: np.ndarray, rngs: Sequence[np.random.Generator]
        ) -> np.ndarray:
            drawn.append(rngs[0].random())
            return super().act(observations, rngs)

    play_episodes(Spy(7), short, noise, [5], envs=1)
    assert not set(drawn) & set(np.random.default_rng(5).random(200))


def test_progress_is_called_once_an_episode(
    short: GameParams, noise: NoiseParams
) -> None:
    calls = []
    game = short.model_copy(update={"time_limit": 3})
    play_episodes(RandomAgent(7), game, noise, range(4), 3, lambda: calls.append(1))
    assert len(calls) == 4


def test_running_on_ends_at_the_first_enemy(
    game: GameParams, no_noise: NoiseParams
) -> None:
    table, [recording] = play_episodes(Repeat(RIGHT), game, no_noise, [1], envs=1)
    [row] = table.to_dict("records")
    assert (row["cause"], row["cleared"]) == ("enemy", False)
    # The first Goomba comes from the right before the first pipe, at x = 448.
    assert 200 < row["death_x"] == row["x_pos_max"] < 448
    assert recording.outcome == "death"


def test_a_fall_into_the_first_pit_is_a_death_by_pit(
    game: GameParams, no_noise: NoiseParams
) -> None:
    # One step on the ground and eight in the air, over all that comes before the pit,
    # which takes up columns 69 and 70 of 16 pixels.
    agent = Repeat(3, *[RIGHT_A_B] * 8)
    table, _ = play_episodes(agent, game, no_noise, [1], envs=1)
    [row] = table.to_dict("records")
    assert row["cause"] == "pit"
    assert 69 * 16 <= row["death_x"] < 71 * 16


def test_the_clock_the_axe_and_the_limits_end_episodes(
    game: GameParams, no_noise: NoiseParams
) -> None:
    def cause(poke: dict[int, int], **limits: int) -> str:
        env = MarioEnv(game.model_copy(update=limits), no_noise)
        env.reset(seed=1)
        for address, value in poke.items():
            env.play.ram[address] = value
        ended = False
        while not ended:
            _, _, terminated, truncated, _ = env.step(0)
            ended = terminated or truncated
        env.close()
        return cause_of_end(env)

    digits = Address.TIME_DIGITS
    # The clock shows 001, and its next tick is the last one.
    assert cause({digits: 0, digits + 1: 0, digits + 2: 1}) == "clock"
    assert cause({Address.GAME_MODE: 2}) == "clear"
    assert cause({}, stuck_limit=5) == "stuck"
    assert cause({}, time_limit=5) == "time_limit"


def test_metrics_are_counted_from_the_table() -> None:
    table = episodes("cpes", [3000, 1000, 400, 600])
    metrics = summarise(table, 1_000, np.random.default_rng(1))
    assert metrics["episodes"] == 4
    assert metrics["clear_rate"] == 0.25
    # Wilson's interval of 1 in 4, by its formula with z = 1.96.
    assert metrics["clear_rate_low"] == pytest.approx(0.0456, abs=1e-4)
    assert metrics["clear_rate_high"] == pytest.approx(0.6994, abs=1e-4)
    assert metrics["x_pos_max_mean"] == 1250
    assert 400 <= metrics["x_pos_max_mean_low"] < 1250 < metrics["x_pos_max_mean_high"]
    assert metrics["x_pos_max_median"] == 800
    assert metrics["agent_steps_mean"] == 25
    ended = {name: n for name, n in metrics.items() if name.startswith("ended_by_")}
    assert ended == {
        "ended_by_clear": 1,
        "ended_by_pit": 1,
        "ended_by_enemy": 1,
        "ended_by_clock": 0,
        "ended_by_stuck": 1,
        "ended_by_time_limit": 0,
    }


def test_a_contrast_is_a_minus_b() -> None:
    a, b = episodes("cccp", [3000] * 4), episodes("ppps", [1000] * 4)
    difference = contrast(a, b, 1_000, np.random.default_rng(1))
    assert difference["clear_rate"] == 0.75
    assert difference["clear_rate_low"] < 0.75 < difference["clear_rate_high"]
    # All distances are equal, so resampling moves nothing.
    bounds = ("x_pos_max_mean_low", "x_pos_max_mean", "x_pos_max_mean_high")
    assert [difference[name] for name in bounds] == [2000, 2000, 2000]


def test_survival_is_the_share_that_got_at_least_so_far() -> None:
    survival = distance_survival(episodes("eeec", [10, 20, 30, 30]), step=10)
    assert survival["x_pos"].tolist() == [0, 10, 20, 30, 40]
    assert survival["share"].tolist() == [1, 1, 0.75, 0.5, 0]


def test_a_table_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "random.csv"
    table = episodes("cpes", [3000, 1000, 400, 600])
    write_csv(path, table)
    pd.testing.assert_frame_equal(read_episodes(path, "random"), table)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text[:-20], "random.csv"),
        (lambda text: text.splitlines()[0], "holds no episode"),
        (lambda text: "", "is not an episode table"),
        (lambda text: text.replace("x_pos_max", "x"), "has the columns"),
        (lambda text: text.replace("random", "bc"), "line 2: agent cannot be 'bc'"),
        (lambda text: text.replace("pit", "hole"), "line 3: cause cannot be 'hole'"),
        (lambda text: text.replace("True", "False"), "line 2: cleared cannot be"),
        (lambda text: text.replace("400,enemy", ",enemy"), "line 4: death_x cannot be"),
        (lambda text: text.replace("3000", "far"), "is not an episode table: .*far"),
    ],
)
def test_a_damaged_table_is_refused_in_one_line(
    tmp_path: Path, change: Callable[[str], str], reason: str
) -> None:
    path = tmp_path / "random.csv"
    write_csv(path, episodes("cpes", [3000, 1000, 400, 600]))
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=reason) as caught:
        read_episodes(path, "random")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_table_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"bc\.csv: is not an episode table"):
        read_episodes(tmp_path / "bc.csv", "bc")


def test_agents_that_played_other_episodes_are_not_compared() -> None:
    tables = {"random": episodes("ee", [1, 2]), "bc": episodes("ee", [1, 2])}
    check_comparable(tables)
    tables["bc"]["sticky_probability"] = 0.5
    with pytest.raises(InputError, match="bc and random differ in sticky_probability"):
        check_comparable(tables)


def test_the_agents_are_two_yardsticks_and_every_trained_one() -> None:
    runs = RunsParams(init=("bc", "scratch"), seed=(1, 7))
    assert agent_names(runs) == [
        "random",
        "bc",
        "bc-seed1",
        "bc-seed7",
        "scratch-seed1",
        "scratch-seed7",
    ]


def test_the_stage_writes_the_same_bytes_every_time(
    small_workspace: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "random"])
    paths = [
        Path("data/episodes/random.csv"),
        Path("data/episodes/random.jsonl"),
        Path("metrics/evaluate/random.json"),
    ]
    contents = []
    for _ in range(2):
        evaluate.main()
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]
    table = read_episodes(paths[0], "random")
    seeds = [recording.seed for recording in read_recordings(paths[1])]
    assert table["seed"].tolist() == seeds
    assert len(table) == small_workspace.evaluate.episodes


def test_the_stage_names_the_agents_it_knows(
    small_workspace: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "bc-seed2"])
    known = "random, bc, bc-seed1, scratch-seed1"
    with pytest.raises(InputError, match=f"no agent 'bc-seed2': .* knows {known}"):
        evaluate.main()
