"""Episodes that begin where there is something to learn."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from warpzone.envs.cartpole import CartPoleEnv
from warpzone.envs.curriculum import MARK_EVERY, Ended, Plan, TrainingEnv
from warpzone.envs.mario.actions import ACTION_SETS
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.replayable import ReplayableEnv, Snapshot
from warpzone.episodes.recording import read_recordings

NOOP, RUN, RUN_AND_JUMP = 0, 3, 4
ACTIONS = np.random.default_rng(5).integers(5, size=500)
ACTIONS[::2] = RUN
CLEARS = Path(__file__).parents[1] / "data" / "clears.jsonl"


def practice(
    make_env: Callable[[], ReplayableEnv] = MarioEnv,
    *,
    starts: Sequence[Snapshot] = (),
    demo_start_probability: float = 0.0,
    restart_probability: float = 1.0,
    plan: Plan | None = None,
) -> tuple[TrainingEnv, Any]:
    """Return an env to train in, and the world inside."""
    shares = demo_start_probability, restart_probability
    env = TrainingEnv(make_env, starts, *shares, plan)
    return env, env.unwrapped


def play(env: gym.Env, actions: np.ndarray) -> list[Any]:
    """Play on, into further episodes, and return all that can be seen."""
    seen: list[Any] = []
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        seen.append((observation.tobytes(), reward, terminated, truncated, info))
        if terminated or truncated:
            observation, info = env.reset()
            seen.append((observation.tobytes(), info))
    return seen


def run_to_death(env: gym.Env) -> None:
    while not env.step(RUN)[2]:
        pass


def some_starts(env: ReplayableEnv) -> tuple[list[Snapshot], list[np.ndarray]]:
    """Return states along an episode, and what was seen there."""
    observation, _ = env.reset(seed=8)
    starts, seen = [], []
    for action in ACTIONS[:24] % env.action_space.n:  # pyright: ignore[reportAttributeAccessIssue]
        if len(env.decisions) % MARK_EVERY == 0:
            starts.append(env.snapshot())
            seen.append(observation)
        observation, *_ = env.step(action)
    return starts, seen


@pytest.mark.slow
def test_what_failed_begins_again_shortly_before_its_end() -> None:
    env, world = practice(lambda: MarioEnv(obs_type="state"))
    rng = np.random.default_rng(0)
    steps_back = set()
    for seed in range(12):
        env.reset(seed=seed)
        for _ in range(4):
            while world.cause is None:
                env.step(rng.choice([RUN, RUN_AND_JUMP]))
            if world.cause not in world.FAILURES:
                break
            decisions, held = bytes(world.decisions), bytes(world.frame_actions)
            observation, info = env.reset()
            assert decisions.startswith(world.decisions)
            assert held.startswith(world.frame_actions)
            assert info["steps"] == len(world.decisions)
            assert info["cause"] is None
            assert env.observation_space.contains(observation)
            steps_back.add(len(decisions) - len(world.decisions))
    assert min(steps_back) >= 8
    assert np.median(list(steps_back)) <= 56
    assert len(steps_back) > 15


def test_what_was_stuck_begins_again_where_it_still_got_on() -> None:
    env, world = practice(lambda: MarioEnv(stuck_limit=40))
    env.reset(seed=0)
    # Before the first Goomba comes.
    for _ in range(10):
        env.step(RUN)
    while world.cause is None:
        env.step(NOOP)
    assert world.cause == "stuck"
    stuck_at = world.ground
    _, info = env.reset()
    # He slides on for a few steps, and is marked until he has stood for 8.
    assert info["steps"] in (0, 8)
    assert world.idle_steps < MARK_EVERY
    assert world.ground <= stuck_at


def test_a_second_try_says_at_what_progress_it_begins() -> None:
    """From there the episode goes on: it gets no less far, and it was there before."""
    env, world = practice(lambda: MarioEnv(obs_type="state"))
    _, info = env.reset(seed=0)
    assert "restarted_at" not in info
    places = []
    for _ in range(6):
        ways = [float(world.progress)]
        while world.cause is None:
            ways.append(float(env.step(RUN)[-1]["progress"]))
        _, info = env.reset()
        assert isinstance(info["restarted_at"], float)
        assert info["restarted_at"] == world.progress
        # Each second try begins where the one before had been or began.
        assert info["restarted_at"] in ways or info["restarted_at"] < ways[0]
        assert env.step(RUN)[-1]["progress"] >= info["restarted_at"]
        places.append(info["restarted_at"])
    assert len(set(places)) > 2


def test_what_begins_elsewhere_is_no_second_try() -> None:
    starts, _ = some_starts(CartPoleEnv())
    env, world = practice(
        CartPoleEnv, starts=starts, demo_start_probability=0.5, restart_probability=0
    )
    infos = [env.reset(seed=0)[1]]
    for _ in range(20):
        while world.cause is None:
            env.step(1)
        infos.append(env.reset()[1])
    assert {info["steps"] for info in infos} == {0, 8, 16}
    assert not any("restarted_at" in info for info in infos)


def test_a_restart_meets_other_noise() -> None:
    env, world = practice()
    env.reset(seed=0)
    tries = set()
    for _ in range(5):
        run_to_death(env)
        env.reset()
        before = len(world.frame_actions)
        for action in (RUN, RUN_AND_JUMP, RUN, RUN_AND_JUMP):
            env.step(action)
        tries.add(bytes(world.frame_actions[before:]))
    assert len(tries) > 1


@pytest.mark.parametrize("emulator", ["fceumm", "nes-py"])
def test_what_went_before_comes_back(emulator: str) -> None:
    """Back at a mark, the same decisions lead on as they did without going back."""
    env, _ = practice(lambda: MarioEnv(emulator=emulator))
    plain = MarioEnv(emulator=emulator)
    env.reset(seed=0)
    plain.reset(seed=0)
    run_to_death(env)
    first_screen, info = env.reset()
    *_, last = [plain.step(RUN) for _ in range(info["steps"])]
    np.testing.assert_array_equal(first_screen, last[0])
    assert info.pop("restarted_at") == info["progress"]
    assert info == last[-1]
    plain.np_random.bit_generator.state = env.np_random.bit_generator.state
    for _ in range(12):
        ours, theirs = env.step(RUN), plain.step(RUN)
        np.testing.assert_array_equal(ours[0], theirs[0])
        assert ours[1:] == theirs[1:]


def test_a_restart_that_fails_is_followed_by_another_no_further_on() -> None:
    env, world = practice(CartPoleEnv)
    env.reset(seed=0)
    begun = []
    for _ in range(6):
        while world.cause is None:
            env.step(1)
        _, info = env.reset()
        begun.append(info["steps"])
    # Pushed to the right all along, the pole falls about the same time each time.
    assert all(later <= 8 for later in begun)
    assert all(steps % MARK_EVERY == 0 for steps in begun)


def test_episodes_begin_along_a_demonstration() -> None:
    demonstrator = MarioEnv()
    starts, seen = some_starts(demonstrator)
    env, _ = practice(starts=starts, demo_start_probability=0.5, restart_probability=0)
    env.reset(seed=0)
    begun = []
    for _ in range(200):
        observation, info = env.reset()
        begun.append(info["steps"])
        if info["steps"] > 0:
            np.testing.assert_array_equal(
                observation, seen[info["steps"] // MARK_EVERY]
            )
    assert set(begun) == {len(start.decisions) for start in starts} == {0, 8, 16}
    # Half of the episodes at the three starts, four standard deviations.
    assert np.mean(np.array(begun) > 0) == pytest.approx(1 / 3, abs=0.14)


def test_an_episode_from_a_start_is_played_on_under_noise() -> None:
    demonstrator = CartPoleEnv()
    starts, _ = some_starts(demonstrator)
    env, world = practice(
        CartPoleEnv, starts=starts[-1:], demo_start_probability=1, restart_probability=0
    )
    env.reset(seed=0)
    held = set()
    for _ in range(20):
        env.reset()
        assert bytes(world.frame_actions) == starts[-1].frame_actions
        for action in (0, 1, 0, 1):
            env.step(action)
        held.add(bytes(world.frame_actions[-4:]))
    assert len(held) > 1


def test_without_starts_there_is_nothing_to_begin_at() -> None:
    env, _ = practice(CartPoleEnv, demo_start_probability=1, restart_probability=0)
    env.reset(seed=0)
    assert {env.reset()[1]["steps"] for _ in range(20)} == {0}


def test_a_seed_begins_at_the_start() -> None:
    starts, _ = some_starts(MarioEnv())
    env, world = practice(starts=starts, demo_start_probability=0.999)
    env.reset(seed=0)
    run_to_death(env)
    _, info = env.reset(seed=1)
    assert info["steps"] == 0
    plain = MarioEnv()
    plain.reset(seed=1)
    assert world.no_ops == plain.no_ops


def test_a_clear_is_not_restarted() -> None:
    quiet: dict[str, Any] = {"no_op_max": 0, "sticky_probability": 0.0}
    env, world = practice(lambda: MarioEnv(action_set="all", **quiet))
    env.reset(seed=0)
    [held] = (r.held for r in read_recordings(CLEARS) if r.level == "1-1")
    for buttons in held[:-1]:
        world.play.advance(buttons)
    _, _, terminated, _, info = env.step(ACTION_SETS["all"].index(held[-1]))
    assert terminated
    assert info["is_success"]
    _, info = env.reset()
    assert info["steps"] == 0


def test_a_truncated_episode_is_restarted() -> None:
    env, _ = practice(lambda: MarioEnv(time_limit=20))
    env.reset(seed=0)
    for _ in range(19):
        env.step(RUN)
    _, _, terminated, truncated, _ = env.step(RUN)
    assert (terminated, truncated) == (False, True)
    # It was marked at 0, 8 and 16; at the last one it may be too late.
    assert env.reset()[1]["steps"] in (0, 8)


def test_without_a_probability_nothing_is_different() -> None:
    actions = np.random.default_rng(1).integers(7, size=300)
    seen = []
    for env in (practice(restart_probability=0.0)[0], MarioEnv()):
        env.reset(seed=9)
        seen.append(play(env, actions))
    assert seen[0] == seen[1]


def test_where_all_begin_along_demonstrations_the_first_one_does_too() -> None:
    starts, _ = some_starts(MarioEnv())
    env, _ = practice(starts=starts[1:], demo_start_probability=1)
    begun = {env.reset(seed=seed)[1]["steps"] for seed in range(8)}
    assert begun == {8, 16}
    # A seed is as good as ever.
    first, second = (env.reset(seed=3)[0].tobytes() for _ in range(2))
    assert first == second


def test_a_plan_says_at_which_starts_episodes_begin_from_the_next_reset_on() -> None:
    starts, _ = some_starts(MarioEnv())
    plan = Plan(1.0, {"1-1": [2]})
    env, _ = practice(starts=starts, restart_probability=0, plan=plan)
    assert {env.reset()[1]["steps"] for _ in range(5)} == {16}
    env.plan = Plan(1.0, {"1-1": [0, 1]})
    assert {env.reset()[1]["steps"] for _ in range(20)} == {0, 8}
    # None of this level: its start. None is said: all.
    env.plan = Plan(1.0, {"1-1": []})
    assert {env.reset()[1]["steps"] for _ in range(5)} == {0}
    env.plan = Plan(1.0)
    assert {env.reset()[1]["steps"] for _ in range(40)} == {0, 8, 16}


def test_levels_are_drawn_with_their_weights() -> None:
    plan = Plan(levels={"1-1": 1.0, "2-1": 6.0, "1-3": 0.0, "1-2": 3.0})
    env, world = practice(lambda: MarioEnv(obs_type="state", no_op_max=0), plan=plan)
    played = []
    for episode in range(400):
        _, info = env.reset(seed=1 if episode == 0 else None)
        assert f"{info['world']}-{info['stage']}" == world.level
        played.append(world.level)
    counts = {level: played.count(level) for level in sorted(set(played))}
    # Four standard deviations of a binomial distribution.
    assert counts == {
        "1-1": pytest.approx(40, abs=24),
        "1-2": pytest.approx(120, abs=37),
        "2-1": pytest.approx(240, abs=40),
    }


@pytest.mark.parametrize("emulator", ["fceumm", "nes-py"])
def test_a_level_that_was_gone_to_is_as_good_as_one_that_was_made(
    emulator: str,
) -> None:
    keys = ("pixels", "state")
    gone = MarioEnv("1-1", emulator=emulator, obs_type=keys)
    gone.reset(seed=1)
    for action in ACTIONS[:20]:
        gone.step(action)
    emulated = gone.emulated_frames
    gone.set_level("2-1")
    assert gone.emulated_frames == emulated
    with pytest.raises(RuntimeError, match="has ended"):
        gone.step(RUN)
    made = MarioEnv("2-1", emulator=emulator, obs_type=keys)
    seen = [env.reset(seed=4) for env in (gone, made)]
    for action in ACTIONS[:30]:
        seen += [env.step(action) for env in (gone, made)]
    for ours, theirs in zip(seen[::2], seen[1::2], strict=True):
        for key in keys:
            np.testing.assert_array_equal(ours[0][key], theirs[0][key])
        assert ours[1:] == theirs[1:]
    assert gone.state_sha256() == made.state_sha256()


@pytest.mark.parametrize("make_env", [MarioEnv, CartPoleEnv])
def test_a_level_that_there_is_not_is_refused(
    make_env: Callable[[], ReplayableEnv],
) -> None:
    env = make_env()
    with pytest.raises(ValueError, match=r"^no level '9-1': \w+ has (1-1 to|default)"):
        env.set_level("9-1")
    env.reset(seed=1)
    env.step(1)


def test_an_episode_that_has_ended_says_where_it_began() -> None:
    starts, _ = some_starts(CartPoleEnv())
    env, world = practice(CartPoleEnv, starts=starts, restart_probability=0.5)
    env.reset(seed=0)
    assert env.ended is None
    ended = []
    for episode in range(40):
        number = episode % 4
        env.plan = Plan(1.0, {"default": [number]}) if number < 3 else Plan()
        while world.cause is None:
            env.step(1)
        _, info = env.reset()
        assert env.ended is not None
        ended.append((env.ended, "restarted_at" in info))
    for (_, was_restarted), (one, _) in pairwise(ended):
        assert one.is_second_try == was_restarted
        assert (one.level, one.is_success) == ("default", False)
    firsts = {one.start for one, _ in ended if not one.is_second_try}
    assert firsts == {None, 0, 1, 2}
    assert Ended("default", None, False, False) in [one for one, _ in ended]
