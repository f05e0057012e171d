"""Episodes that begin where there is something to learn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from warpzone.core.params import GameParams, NoiseParams
from warpzone.envs.curriculum import MARK_EVERY, PracticeEnv
from warpzone.envs.mario.actions import ACTION_SETS
from warpzone.envs.mario.env import MarioEnv, Mark
from warpzone.envs.mario.observation import ObsType
from warpzone.episodes.recording import read_recordings

RUN, RUN_AND_JUMP = 3, 4
ACTIONS = np.random.default_rng(5).integers(5, size=500)
ACTIONS[::2] = RUN
CLEARS = Path(__file__).parents[1] / "data" / "clears.jsonl"


@pytest.fixture
def env(game: GameParams, noise: NoiseParams) -> PracticeEnv:
    return PracticeEnv(
        game.model_copy(update={"emulator": "fceumm"}), noise, retry_share=1.0
    )


def play(env: MarioEnv, actions: np.ndarray) -> list[Any]:
    """Play on, into further episodes, and return all that can be seen."""
    seen: list[Any] = []
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        seen.append((observation.tobytes(), reward, terminated, truncated, info))
        if terminated or truncated:
            observation, info = env.reset()
            seen.append((observation.tobytes(), info))
    return seen


def run_to_death(env: MarioEnv) -> None:
    while not env.step(RUN)[2]:
        pass


def test_what_failed_begins_again_shortly_before_its_end(env):
    rng = np.random.default_rng(0)
    steps_back = set()
    for seed in range(12):
        env.reset(seed=seed)
        for _ in range(4):
            while True:
                action = rng.choice([RUN, RUN_AND_JUMP])
                _, _, terminated, truncated, info = env.step(action)
                if terminated or truncated:
                    break
            if truncated or info["flag_get"]:
                break
            decisions, buttons = bytes(env.decisions), bytes(env.frame_buttons)
            observation, info = env.reset()
            assert decisions.startswith(env.decisions)
            assert buttons.startswith(env.frame_buttons)
            assert info["steps"] == len(env.decisions)
            assert observation.shape == env.observation_space.shape
            steps_back.add(len(decisions) - len(env.decisions))
    assert min(steps_back) >= 8
    assert np.median(list(steps_back)) <= 56
    assert len(steps_back) > 15


def test_a_second_try_meets_other_noise(env):
    env.reset(seed=0)
    tries = set()
    for _ in range(5):
        run_to_death(env)
        env.reset()
        before = len(env.frame_buttons)
        for action in (RUN, RUN_AND_JUMP, RUN, RUN_AND_JUMP):
            env.step(action)
        tries.add(bytes(env.frame_buttons[before:]))
    assert len(tries) > 1


def test_what_went_before_comes_back(env, game, noise):
    """Back at a mark, the same decisions lead on as they did without going back."""
    env.reset(seed=0)
    plain = MarioEnv(game, noise)
    plain.reset(seed=0)
    run_to_death(env)
    first_screen, info = env.reset()
    *_, last = [plain.step(RUN) for _ in range(info["steps"])]
    assert np.array_equal(first_screen, last[0])
    assert info == last[-1]
    plain.np_random.bit_generator.state = env.np_random.bit_generator.state
    for _ in range(8):
        ours, theirs = env.step(RUN), plain.step(RUN)
        assert np.array_equal(ours[0], theirs[0])
        assert ours[1:] == theirs[1:]


@pytest.mark.parametrize("obs_type", ["pictures", "ram"])
@pytest.mark.parametrize("emulator", ["fceumm", "nes-py"])
@pytest.mark.parametrize("steps", [30, 333])
def test_a_log_leads_to_the_same_state_in_another_environment(
    game: GameParams, noise: NoiseParams, emulator, obs_type: ObsType, steps
):
    game = game.model_copy(update={"emulator": emulator})
    # A state of nes-py's needs the console that it comes from.
    demonstrator = MarioEnv(game, noise, obs_type=obs_type)
    starts = some_starts(demonstrator)
    env, other = (
        PracticeEnv(
            game,
            noise,
            obs_type,
            retry_share=0.8,
            starts=starts,
            start_share=0.5,
        )
        for _ in range(2)
    )
    env.reset(seed=3)
    play(env, ACTIONS[:steps])
    other.replay(env.log())
    later = ACTIONS[steps : steps + 60]
    assert play(env, later) == play(other, later)


def test_episodes_begin_along_a_demonstration(game, noise):
    demonstrator = MarioEnv(game, noise)
    starts = some_starts(demonstrator)
    env = PracticeEnv(game, noise, retry_share=0.0, starts=starts, start_share=0.5)
    env.reset(seed=0)
    begun = set()
    for _ in range(200):
        observation, info = env.reset()
        begun.add(info["steps"])
        if info["steps"] > 0:
            mark = starts[info["steps"] // MARK_EVERY]
            assert np.array_equal(observation, mark.observation)
    assert begun == {len(start.decisions) for start in starts}


def some_starts(env: MarioEnv) -> list[Mark]:
    env.reset(seed=8)
    starts = []
    for action in ACTIONS[:24]:
        if len(env.decisions) % MARK_EVERY == 0:
            starts.append(env.mark())
        env.step(action)
    return starts


def test_a_seed_begins_at_the_start(env):
    env.reset(seed=0)
    run_to_death(env)
    _, info = env.reset(seed=1)
    assert info["steps"] == 0


def test_a_clear_is_not_tried_again(game, no_noise):
    all_buttons = game.model_copy(update={"action_set": "all"})
    env = PracticeEnv(all_buttons, no_noise, retry_share=1.0)
    env.reset(seed=0)
    (held,) = (r.frame_buttons for r in read_recordings(CLEARS) if r.level == "1-1")
    for buttons in held[:-1]:
        env.play.advance(buttons)
    _, _, terminated, _, info = env.step(ACTION_SETS["all"].index(held[-1]))
    assert terminated
    assert info["flag_get"]
    _, info = env.reset()
    assert info["steps"] == 0


def test_without_a_share_nothing_is_different(game, noise):
    actions = np.random.default_rng(1).integers(7, size=300)
    seen = []
    for env in (PracticeEnv(game, noise, retry_share=0.0), MarioEnv(game, noise)):
        env.reset(seed=9)
        seen.append(play(env, actions))
    assert seen[0] == seen[1]
