"""The planner demonstrates Mario's levels, and disturbs no episode."""

from collections.abc import Callable

import numpy as np
import pytest

from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.mario.planner import Planner
from warpzone.envs.nes.buttons import LEFT
from warpzone.envs.registry import make_demonstrator
from warpzone.episodes.recording import Recording, watch


def demonstrate(planner: Planner, env: MarioEnv, seed: int) -> Recording:
    """Play an episode to its end."""
    env.reset(seed=seed)
    planner.reset()
    while env.cause is None:
        env.step(planner.decide())
    return Recording.of_episode(env, seed)


@pytest.fixture(scope="module")
def env() -> MarioEnv:
    return MarioEnv(time_limit=60)


@pytest.fixture(scope="module")
def demonstration(env: MarioEnv) -> Recording:
    return demonstrate(Planner(env), env, seed=5)


def test_the_planner_passes_the_first_enemies_and_pipes(
    env: MarioEnv, demonstration: Recording
) -> None:
    # The first Goomba stands at about 350, the first pipes at 450 and 610 pixels.
    assert demonstration.outcome == "unfinished"
    assert env.progress > 450


def test_without_b_the_planner_walks() -> None:
    env = MarioEnv(action_set="walk", time_limit=120)
    demonstration = demonstrate(Planner(env), env, seed=5)
    assert demonstration.outcome == "unfinished"
    # Mario walks 1.6 pixels a frame and runs 2.5; he starts at 40.
    assert 450 < env.progress < 40 + 120 * 4 * 2


def test_a_demonstration_replays_and_shows_what_the_player_saw(
    demonstration: Recording,
) -> None:
    observations, actions = watch(demonstration, {}, ("pixels", "state"), "it")
    assert observations["pixels"].shape == (60, 4, 52, 64)
    assert observations["state"].shape == (60, 2048)
    assert len(actions) == 60


def test_planning_leaves_the_environment_as_it_was(env: MarioEnv) -> None:
    env.reset(seed=3)
    planner = Planner(env)
    before = bytes(env.play.ram)
    noise = env.np_random.bit_generator.state
    planner.decide()
    assert bytes(env.play.ram) == before
    assert env.np_random.bit_generator.state == noise
    assert not env.decisions


def test_the_frames_of_planning_are_counted(env: MarioEnv) -> None:
    env.reset(seed=3)
    planner = make_demonstrator("mario", env)
    played, planned = env.emulated_frames, planner.emulated_frames
    # It has a console of its own, which has entered the level.
    assert planned > played
    planner.decide()
    assert env.emulated_frames == played
    # At the least it ran on for 16 steps of four frames.
    assert planner.emulated_frames - planned >= 64


def test_the_same_seed_gives_the_same_demonstration() -> None:
    envs = [MarioEnv(time_limit=30) for _ in range(2)]
    first, second = (demonstrate(Planner(env), env, seed=5) for env in envs)
    assert first == second
    assert np.unique(list(first.decided)).size > 1


@pytest.mark.slow
def test_the_planner_clears_1_1_under_noise_on_the_reference_and_it_replays() -> None:
    # Its snapshots are not exact: what is logged replays because only the planner's own
    # console is ever restored.
    env = MarioEnv(emulator="nes-py")
    planner = Planner(env)
    for seed in (0, 1):
        recording = demonstrate(planner, env, seed)
        assert recording.outcome == "success"
        _, actions = watch(recording, {}, ("state",), f"seed {seed}")
        assert len(actions) == len(env.decisions)


@pytest.mark.slow
@pytest.mark.parametrize("level", ["1-2", "1-3", "1-4"])
def test_the_planner_finds_its_way_through_other_levels(level: str) -> None:
    # A dead end, falls longer than a jump, and a castle, which has no flag.
    pytest.importorskip("stable_retro")
    env = MarioEnv(level)
    planner = Planner(env)
    outcomes = [demonstrate(planner, env, seed).outcome for seed in (0, 1)]
    assert "success" in outcomes


def test_a_plan_starts_anew_where_something_else_was_played(
    mario: Callable[..., MarioEnv],
) -> None:
    env = mario(emulator="fceumm")
    env.reset(seed=0)
    planner = Planner(env)
    for _ in range(12):
        env.step(planner.decide())
    # Walking left is not what was planned; the first Goomba still lies ahead.
    for _ in range(6):
        env.step(env.codes.index(LEFT))
    for _ in range(60):
        _, _, terminated, _, _ = env.step(planner.decide())
        assert not terminated
    assert env.progress > 450
