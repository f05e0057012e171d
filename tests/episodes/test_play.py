"""The loop that plays episodes: what they depend on, and how they end."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd
import pytest

from warpzone.core.params import NoiseParams
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.mario.state import Address
from warpzone.envs.registry import env_class, make_env
from warpzone.envs.replayable import ReplayableEnv
from warpzone.episodes.agent import Agent, Observations, RandomAgent
from warpzone.episodes.play import play_episodes
from warpzone.episodes.recording import Recording, replay
from warpzone.episodes.table import columns_of

RIGHT, RIGHT_A_B = 1, 4
"""Actions of the set ``simple``."""

NOISE = NoiseParams(no_op_max=30, sticky_probability=0.25, sticky_unit="frame")
QUIET = NoiseParams(no_op_max=0, sticky_probability=0.0, sticky_unit="frame")


class Repeat:
    """Does the same few actions over and over."""

    keys, memory_size = ("state",), 0

    def __init__(self, *actions: int) -> None:
        self.actions = actions
        self.steps = 0

    def act(
        self,
        observations: Observations,
        memories: np.ndarray,
        rngs: Sequence[np.random.Generator],
    ) -> tuple[np.ndarray, np.ndarray]:
        action = self.actions[self.steps % len(self.actions)]
        self.steps += 1
        return np.full(len(rngs), action), memories


def mario(level: str, noise: NoiseParams = NOISE, **kwargs: Any) -> ReplayableEnv:
    kwargs = {"emulator": "fceumm", "time_limit": 40} | kwargs
    return make_env("mario", kwargs, level, noise, ("state",))


def cartpole(
    level: str, noise: NoiseParams = NOISE, time_limit: int = 100
) -> ReplayableEnv:
    return make_env("cartpole", {"time_limit": time_limit}, level, noise, ("state",))


def replayed(recording: Recording) -> tuple[int, ReplayableEnv]:
    """Replay a recording and return its frames, and the env at its end."""
    with closing(recording.make_env({})) as env:
        *_, frames = replay(recording, env, "test")
    return frames, env


def test_rows_and_recordings_follow_the_seeds_and_agree() -> None:
    seeds = [5, 3, 8]
    table, recordings = play_episodes(RandomAgent(7), mario, ["1-1"], seeds, n_envs=2)
    columns = list(columns_of(env_class("mario")))
    assert ["agent", "task", "noise", *table] == columns
    assert table["seed"].tolist() == [log.seed for log in recordings] == seeds
    for (_, row), recording in zip(table.iterrows(), recordings, strict=True):
        frames, env = replayed(recording)
        assert frames == row["emulator_frames"]
        assert env.progress == row["progress"]
        assert len(recording.decided) == row["agent_steps"]
        assert str(row["log_sha256"]) == sha256(env.frame_actions).hexdigest()
    assert len(set(table["log_sha256"])) == 3


def test_without_noise_the_same_actions_are_the_same_episode() -> None:
    table, _ = play_episodes(
        Repeat(RIGHT), lambda level: mario(level, QUIET), ["1-1"], [1, 2, 3], 1
    )
    assert len(set(table["log_sha256"])) == 1


def test_rows_and_recordings_of_another_world_agree_too() -> None:
    seeds = [5, 3, 8, 1]
    table, recordings = play_episodes(
        RandomAgent(2), cartpole, ["default"], seeds, n_envs=3
    )
    assert ["agent", "task", "noise", *table] == list(columns_of(env_class("cartpole")))
    assert table["seed"].tolist() == [log.seed for log in recordings] == seeds
    assert set(table["cause"]) == {"fell"}
    # Each agent step is a frame and pays 1.
    assert table["progress"].tolist() == table["agent_steps"].tolist()
    assert table["episode_return"].tolist() == table["agent_steps"].tolist()
    assert table["place"].isna().to_numpy().all()
    for (_, row), recording in zip(table.iterrows(), recordings, strict=True):
        frames, env = replayed(recording)
        assert frames == row["emulator_frames"]
        assert frames == recording.no_ops + row["agent_steps"]
        assert env.outcome == recording.outcome == "failure"


def test_a_balanced_pole_is_a_success(balance: Agent) -> None:
    table, recordings = play_episodes(
        balance, partial(cartpole, noise=QUIET), ["default"], [1], n_envs=1
    )
    [row] = table.to_dict("records")
    assert (row["cause"], row["success"], row["progress"]) == ("balanced", True, 100)
    assert recordings[0].outcome == "success"


@pytest.mark.parametrize(("n_envs", "cores"), [(1, 1), (2, 1), (3, 2), (5, 2), (9, 4)])
def test_an_episode_depends_on_its_seed_and_level_only(
    n_envs: int, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = list(range(5))
    expected = play_episodes(RandomAgent(2), cartpole, ["default"], seeds, n_envs=4)
    assert len({recording.state_sha256 for recording in expected[1]}) == 5
    monkeypatch.setattr("os.process_cpu_count", lambda: cores)
    found = play_episodes(RandomAgent(2), cartpole, ["default"], seeds, n_envs)
    pd.testing.assert_frame_equal(found[0], expected[0], check_exact=True)
    assert found[1] == expected[1]
    alone = play_episodes(RandomAgent(2), cartpole, ["default"], [4, 1], n_envs)
    pd.testing.assert_frame_equal(
        alone[0], expected[0].loc[[4, 1]].reset_index(drop=True), check_exact=True
    )
    assert alone[1] == [expected[1][4], expected[1][1]]


def test_episodes_of_the_game_depend_on_their_seeds_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table, recordings = play_episodes(
        RandomAgent(7), mario, ["1-1"], range(5), n_envs=3
    )
    assert len({recording.state_sha256 for recording in recordings}) == 5
    monkeypatch.setattr("os.process_cpu_count", lambda: 1)
    alone = play_episodes(RandomAgent(7), mario, ["1-1"], [4, 1], n_envs=1)
    pd.testing.assert_frame_equal(
        alone[0], table.loc[[4, 1]].reset_index(drop=True), check_exact=True
    )
    assert alone[1] == [recordings[4], recordings[1]]


def test_episodes_take_the_levels_in_turns() -> None:
    levels, seeds = ["1-1", "1-2"], [7, 7, 2]
    make = partial(mario, time_limit=12)
    alone = [
        play_episodes(RandomAgent(7), make, [level], [seed], n_envs=1)[1][0]
        for level, seed in (("1-1", 7), ("1-2", 7), ("1-1", 2))
    ]
    for n_envs in (1, 2):
        table, recordings = play_episodes(RandomAgent(7), make, levels, seeds, n_envs)
        assert table["level"].tolist() == ["1-1", "1-2", "1-1"]
        assert [log.level for log in recordings] == ["1-1", "1-2", "1-1"]
        assert recordings == alone


def test_more_levels_than_episodes_leave_the_last_ones_out(balance: Agent) -> None:
    made: list[str] = []

    def make(level: str) -> ReplayableEnv:
        made.append(level)
        return cartpole("default", time_limit=5)

    table, _ = play_episodes(balance, make, ["default", "no such"], [1], n_envs=4)
    assert made == ["default"]
    assert len(table) == 1


def test_every_env_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[MarioEnv] = []

    def make(level: str) -> ReplayableEnv:
        env = mario(level, time_limit=3)
        assert isinstance(env, MarioEnv)
        made.append(env)
        return env

    play_episodes(RandomAgent(7), make, ["1-1", "1-2"], range(5), n_envs=1)
    assert [env.level for env in made] == ["1-1", "1-2", "1-1", "1-2", "1-1"]
    assert [env.cause for env in made] == ["closed"] * 5


def test_actions_are_not_drawn_from_the_stream_of_the_noise() -> None:
    drawn = []

    class Spy(RandomAgent):
        def act(
            self,
            observations: Observations,
            memories: np.ndarray,
            rngs: Sequence[np.random.Generator],
        ) -> tuple[np.ndarray, np.ndarray]:
            drawn.append(rngs[0].random())
            return super().act(observations, memories, rngs)

    play_episodes(Spy(2), cartpole, ["default"], [5], n_envs=1)
    assert not set(drawn) & set(np.random.default_rng(5).random(2000))


class Counts:
    """Remembers how many steps it has taken, and draws only every third action."""

    keys, memory_size = ("state",), 1

    def __init__(self) -> None:
        self.seen: list[list[float]] = []

    def act(
        self,
        observations: Observations,
        memories: np.ndarray,
        rngs: Sequence[np.random.Generator],
    ) -> tuple[np.ndarray, np.ndarray]:
        steps = memories[:, 0]
        self.seen.append(steps.tolist())
        drawn = [
            rng.integers(2) if n % 3 == 0 else n % 3 - 1
            for rng, n in zip(rngs, steps, strict=True)
        ]
        return np.array(drawn, np.int64), memories + 1


def test_an_agent_remembers_its_own_episode_only() -> None:
    agent, seeds = Counts(), [4, 2, 9, 7]
    table, recordings = play_episodes(agent, cartpole, ["default"], seeds, n_envs=2)
    alone = Counts()
    for index, seed in enumerate(seeds):
        _, [one] = play_episodes(alone, cartpole, ["default"], [seed], n_envs=1)
        assert one == recordings[index]
    # In each episode it counts from 0.
    steps = table["agent_steps"].tolist()
    assert [n for [n] in alone.seen] == [n for count in steps for n in range(count)]
    assert sorted(n for row in agent.seen for n in row) == sorted(
        n for [n] in alone.seen
    )


def test_progress_is_called_once_an_episode() -> None:
    calls = []
    make = partial(cartpole, time_limit=3)
    play_episodes(
        RandomAgent(2), make, ["default"], range(4), 3, lambda: calls.append(1)
    )
    assert len(calls) == 4


def test_on_step_sees_each_observation_before_its_action() -> None:
    seen: dict[int, list[np.ndarray]] = {0: [], 1: [], 2: []}

    def on_step(index: int, observation: Mapping[str, np.ndarray]) -> None:
        assert list(observation) == ["state"]
        seen[index].append(observation["state"].copy())

    seeds = [4, 2, 9]
    table, recordings = play_episodes(
        RandomAgent(2), cartpole, ["default"], seeds, 2, on_step=on_step
    )
    for index, recording in enumerate(recordings):
        with closing(cartpole("default")) as env:
            observations = [env.reset(seed=seeds[index])[0]]
            observations += [env.step(code)[0] for code in recording.decided]
        expected = np.stack([one["state"] for one in observations[:-1]])
        assert len(expected) == table["agent_steps"][index]
        np.testing.assert_array_equal(np.stack(seen[index]), expected)


def test_running_on_ends_at_the_first_enemy() -> None:
    make = partial(mario, noise=QUIET, time_limit=1500)
    table, [recording] = play_episodes(Repeat(RIGHT), make, ["1-1"], [1], n_envs=1)
    [row] = table.to_dict("records")
    assert (row["cause"], row["success"]) == ("enemy", False)
    # The first Goomba comes from the right before the first pipe, at x = 448.
    assert 200 < row["place"] == row["progress"] < 448
    assert recording.outcome == "failure"


def test_a_fall_into_the_first_pit_is_a_death_by_pit() -> None:
    # One step on the ground and eight in the air, over all that comes before the pit,
    # which takes up columns 69 and 70 of 16 pixels.
    agent = Repeat(3, *[RIGHT_A_B] * 8)
    make = partial(mario, noise=QUIET, time_limit=1500)
    table, _ = play_episodes(agent, make, ["1-1"], [1], n_envs=1)
    [row] = table.to_dict("records")
    assert row["cause"] == "pit"
    assert 69 * 16 <= row["place"] < 71 * 16


def test_the_clock_the_axe_and_the_limits_end_episodes() -> None:
    def row(poke: dict[int, int], **limits: int) -> dict[Any, Any]:
        class Poked(MarioEnv):
            def begin(self, no_ops: int) -> Any:
                begun = super().begin(no_ops)
                for address, value in poke.items():
                    self.play.ram[address] = value
                return begun

        def make(level: str) -> ReplayableEnv:
            return Poked(
                level,
                emulator="nes-py",
                no_op_max=0,
                sticky_probability=0.0,
                obs_type=("state",),
                **limits,  # pyright: ignore[reportArgumentType]
            )

        table, _ = play_episodes(Repeat(0), make, ["1-1"], [1], n_envs=1)
        [row] = table.to_dict("records")
        return row

    digits = Address.TIME_DIGITS
    # The clock shows 001, and its next tick is the last one.
    clock = row({digits: 0, digits + 1: 0, digits + 2: 1})
    assert (clock["cause"], clock["success"]) == ("clock", False)
    axe = row({Address.GAME_MODE: 2})
    assert (axe["cause"], axe["success"]) == ("clear", True)
    # Only where Mario dies is there a place.
    stuck, late = row({}, stuck_limit=5), row({}, time_limit=5)
    assert [end["cause"] for end in (stuck, late)] == ["stuck", "time_limit"]
    assert all(pd.isna(end["place"]) for end in (axe, stuck, late))
    assert not pd.isna(clock["place"])
