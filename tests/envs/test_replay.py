"""A log of actions leads to the same state in another env, and in another process."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from warpzone.envs.cartpole import CartPoleEnv
from warpzone.envs.curriculum import MARK_EVERY, Plan, TrainingEnv
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.replayable import ReplayableEnv, Snapshot

SMALL: dict[str, Any] = {"height": 36, "width": 36}
RUN = 3


def some_actions(env: gym.Env, count: int) -> list[int]:
    """Return actions that end many episodes, few of them at once."""
    space = env.action_space
    assert isinstance(space, gym.spaces.Discrete)
    rng = np.random.default_rng(5)
    if space.n > RUN:
        # Mario meets the first Goomba.
        return np.where(
            rng.random(count) < 0.2, rng.integers(7, size=count), RUN
        ).tolist()
    # The pole stands for some time between pushes that cancel each other out.
    return [step.bit_count() % 2 for step in range(count)]


def some_starts(env: ReplayableEnv) -> list[Snapshot]:
    env.reset(seed=8)
    starts = []
    for action in some_actions(env, 2 * MARK_EVERY):
        if len(env.decisions) % MARK_EVERY == 0:
            starts.append(env.snapshot())
        env.step(action)
        assert env.cause is None
    return starts


def practice(
    make_env: Callable[[], ReplayableEnv], starts: Sequence[Snapshot]
) -> TrainingEnv:
    return TrainingEnv(
        make_env, starts, demo_start_probability=0.5, restart_probability=0.8
    )


def copied(observation: Any) -> Any:
    """Return what can be compared with ``==``."""
    if isinstance(observation, dict):
        return {key: array.tobytes() for key, array in observation.items()}
    return observation.tobytes()


def play(env: gym.Env, actions: Sequence[int]) -> list[Any]:
    """Play on, into further episodes, and return all that can be seen."""
    seen: list[Any] = []
    for action in actions:
        observation, *rest = env.step(action)
        seen.append((copied(observation), *rest))
        if rest[1] or rest[2]:
            observation, info = env.reset()
            seen.append((copied(observation), info))
    return seen


def plain() -> TrainingEnv:
    """Return an env whose episodes all begin at the level's start."""
    return TrainingEnv(CartPoleEnv, (), 0.0, 0.0)


def last_seen(env: gym.Env, seen: list[Any], first: Any) -> Any:
    """Return what an agent sees before its next decision."""
    return seen[-1][0] if seen else first


def assert_replays_exactly(
    make_env: Callable[[], ReplayableEnv], steps: int, further: int, seed: int = 3
) -> dict[str, Any]:
    # A state of nes-py's needs the console that it comes from.
    demonstrator = make_env()
    starts = some_starts(demonstrator)
    env, other = (practice(make_env, starts) for _ in range(2))
    first, _ = env.reset(seed=seed)
    actions = some_actions(env, steps + further)
    seen = play(env, actions[:steps])
    log = json.loads(json.dumps(env.log()))
    assert log == env.log()
    *_, observation = other.replay(log)
    assert copied(observation) == last_seen(env, seen, copied(first))
    ours, theirs = (one.np_random.bit_generator.state for one in (env, other))
    assert ours == theirs
    # Actions, generators and the number of marks.
    assert other.log() == log
    assert play(other, actions[steps:]) == play(env, actions[steps:])
    demonstrator.close()
    return log


@pytest.mark.parametrize("obs_type", ["pixels", "state", ("pixels", "state")])
def test_mario_replays_after_some_episodes(obs_type: Any) -> None:
    make_env = partial(MarioEnv, obs_type=obs_type, **SMALL)
    log = assert_replays_exactly(make_env, steps=230, further=60)
    # It has been restarted three times.
    assert len(log["restores"]) == 3


@pytest.mark.parametrize("steps", [0, 1, 30, 61])
def test_mario_replays_on_the_reference_emulator(steps: int) -> None:
    make_env = partial(MarioEnv, emulator="nes-py", obs_type="state")
    assert_replays_exactly(make_env, steps=steps, further=20)


@pytest.mark.slow
@pytest.mark.parametrize("emulator", ["fceumm", "nes-py"])
@pytest.mark.parametrize("seed", range(4))
def test_mario_replays_after_many_episodes(emulator: str, seed: int) -> None:
    make_env = partial(MarioEnv, emulator=emulator, obs_type=("pixels", "state"))
    assert_replays_exactly(make_env, steps=333 + seed, further=60, seed=seed)


def test_cartpole_replays_after_any_number_of_steps() -> None:
    make_env = partial(CartPoleEnv, no_op_max=5)
    logs = [
        assert_replays_exactly(make_env, steps=n, further=40, seed=n)
        for n in range(200)
    ]
    assert {log["start"] for log in logs} == {None, 0, 1}
    assert max(len(log["restores"]) for log in logs) > 1
    assert max(log["marks"] for log in logs) > 2
    # Some were taken as soon as an episode or a restart had begun.
    assert any(not log["actions"] for log in logs)
    assert any(len(log["actions"]) in dict(log["restores"]) for log in logs)


@pytest.mark.parametrize("emulator", ["fceumm", "nes-py"])
def test_mario_replays_on_the_level_that_was_drawn(emulator: str) -> None:
    make_env = partial(MarioEnv, emulator=emulator, obs_type="state", time_limit=9)
    plan = Plan(levels={"1-1": 1.0, "1-2": 1.0, "2-1": 1.0})
    env, other = (TrainingEnv(make_env, (), 0.0, 0.5, plan) for _ in range(2))
    first, _ = env.reset(seed=3)
    levels = set()
    for steps in (5, 14, 30, 50):
        seen = play(env, [RUN] * steps)
        log = json.loads(json.dumps(env.log()))
        levels.add(log["level"])
        *_, observation = other.replay(log)
        assert copied(observation) == last_seen(env, seen, copied(first))
        assert other.log() == log
        assert play(other, [RUN] * 12) == play(env, [RUN] * 12)
    assert len(levels) > 1


def test_a_replay_yields_what_was_seen_before_each_step() -> None:
    env, other = plain(), plain()
    observation, _ = env.reset(seed=2)
    seen = [observation]
    for action in (0, 1, 1, 0):
        observation, *_ = env.step(action)
        seen.append(observation)
    np.testing.assert_array_equal(list(other.replay(env.log())), seen)


def test_a_log_holds_the_actions_and_the_generator_of_the_episodes_start() -> None:
    env = plain()
    env.reset(seed=2)
    log = {
        "generator": np.random.default_rng(2).bit_generator.state,
        "level": "default",
        "start": None,
        "actions": [],
        "restores": [],
        "marks": 0,
    }
    assert env.log() == log
    env.step(1)
    env.step(np.int64(0))
    assert env.log() == log | {"actions": [1, 0]}
    env.reset()
    assert env.log()["actions"] == []
    assert env.log()["generator"] != log["generator"]


def test_a_seed_is_as_good_as_without_the_wrapper() -> None:
    logged, bare = plain(), CartPoleEnv()
    assert copied(logged.reset(seed=4)[0]) == copied(bare.reset(seed=4)[0])
    assert logged.np_random.random() == bare.np_random.random()
