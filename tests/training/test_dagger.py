from collections.abc import Sequence
from contextlib import closing

import numpy as np
import pytest
import torch

from warpzone.agents.policy import (
    Policy,
    action_logits,
    build_policy,
    make_deterministic,
)
from warpzone.core.params import EmulatorName, GameParams, NoiseParams
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.mario.observation import ObsType
from warpzone.episodes.agent import Agent, RandomAgent
from warpzone.episodes.evaluation import play_episodes
from warpzone.episodes.recording import Recording, play_again, watch
from warpzone.training.dagger import Witness

SEEDS = [5, 6, 7]


@pytest.fixture(params=["nes-py", "fceumm"])
def short_game(request: pytest.FixtureRequest, game: GameParams) -> GameParams:
    emulator: EmulatorName = request.param
    if emulator == "fceumm":
        pytest.importorskip("stable_retro")
    return game.model_copy(update={"emulator": emulator, "time_limit": 20})


def witnessed(
    agent: Agent, game: GameParams, noise: NoiseParams, obs_type: ObsType = "pictures"
) -> tuple[list[Recording], list[Witness]]:
    """Return episodes, and who saw them."""
    witnesses = [Witness(game) for _ in SEEDS]
    _, recordings = play_episodes(
        agent,
        game,
        noise,
        SEEDS,
        len(SEEDS),
        obs_type=obs_type,
        before_step=lambda index, env: witnesses[index].look(env),
    )
    return recordings, witnesses


@pytest.fixture
def teacher(short_game: GameParams) -> Policy:
    make_deterministic(1)
    return build_policy(short_game, "ram")


@pytest.mark.parametrize("obs_type", ["pictures", "ram"])
def test_the_teacher_is_asked_about_what_was_to_be_seen(
    teacher: Policy, short_game: GameParams, noise: NoiseParams, obs_type: ObsType
) -> None:
    recordings, witnesses = witnessed(RandomAgent(7), short_game, noise, obs_type)
    for recording, witness in zip(recordings, witnesses, strict=True):
        asked, stuck = witness.ask(teacher, 0.5, is_stuck=False)
        assert len(stuck) == 0
        pictures, actions = watch(recording, short_game, "here")
        ram, _ = watch(recording, short_game, "here", "ram")
        assert len(actions) == 20
        assert np.array_equal(asked.observations, pictures)
        # Each picture is kept once, though most are seen four times.
        first, last = np.lib.array_utils.byte_bounds(asked.observations)
        assert last - first == (len(pictures) + 3) * pictures[0, 0].nbytes
        # Half the temperature doubles the logits.
        logits = torch.from_numpy(action_logits(teacher, ram))
        expected = torch.softmax(2 * logits, dim=1).numpy()
        assert asked.probabilities.dtype == np.float32
        assert np.allclose(asked.probabilities, expected, atol=1e-6)


def test_a_teacher_without_temperature_is_certain(
    teacher: Policy, short_game: GameParams, noise: NoiseParams
) -> None:
    [recording, *_], [witness, *_] = witnessed(RandomAgent(7), short_game, noise)
    asked, _ = witness.ask(teacher, 0.0, is_stuck=False)
    ram, _ = watch(recording, short_game, "here", "ram")
    likeliest = action_logits(teacher, ram).argmax(axis=1)
    assert np.array_equal(asked.probabilities, np.eye(7)[likeliest])


def test_whoever_sees_it_played_again_is_told_the_same(
    teacher: Policy, short_game: GameParams, noise: NoiseParams
) -> None:
    game = short_game.model_copy(update={"stuck_limit": 10, "time_limit": 100})
    recordings, witnesses = witnessed(Stops(), game, noise)
    with closing(MarioEnv(game, noise)) as env:
        for recording, witness in zip(recordings, witnesses, strict=True):
            later = Witness(game)
            for _ in play_again(recording, env, "here"):
                later.look(env)
            first, again = (w.ask(teacher, 0.5, True) for w in (witness, later))
            for told, told_again in zip(first, again, strict=True):
                assert len(told) > 0
                assert np.array_equal(told.observations, told_again.observations)
                assert np.array_equal(told.probabilities, told_again.probabilities)


def test_where_the_clone_is_stuck_any_action_is_as_good(
    teacher: Policy, short_game: GameParams, noise: NoiseParams
) -> None:
    game = short_game.model_copy(update={"stuck_limit": 10, "time_limit": 100})
    recordings, witnesses = witnessed(Stops(), game, noise)
    for recording, witness in zip(recordings, witnesses, strict=True):
        assert recording.outcome == "unfinished"
        told, untold = witness.ask(teacher, 0.5, is_stuck=True)
        pictures, _ = watch(recording, game, "here")
        assert len(pictures) < 34
        # Four steps after the last new ground all four pictures show him stand.
        assert len(told) == len(told.probabilities) == len(pictures) - 6
        assert np.array_equal(told.observations, pictures[:-6])
        assert np.array_equal(untold.observations, pictures[-6:])
        assert np.array_equal(untold.probabilities, np.full((6, 7), np.float32(1 / 7)))


@pytest.mark.parametrize("is_stuck", [True, False])
def test_the_teacher_is_asked_to_the_end_of_an_episode_that_ends_otherwise(
    teacher: Policy, short_game: GameParams, noise: NoiseParams, is_stuck: bool
) -> None:
    # Stuck for too short a time, or dead at last.
    limits = {"stuck_limit": 3 if is_stuck else 10, "time_limit": 100}
    game = short_game.model_copy(update=limits)
    recordings, witnesses = witnessed(Stops(), game, noise)
    for recording, witness in zip(recordings, witnesses, strict=True):
        told, untold = witness.ask(teacher, 0.5, is_stuck)
        assert len(untold) == 0
        assert len(told) == len(recording.decided)


class Stops:
    """Runs to the right for ten agent steps."""

    def __init__(self) -> None:
        self._steps = 0

    def act(
        self, observations: np.ndarray, rngs: Sequence[np.random.Generator]
    ) -> np.ndarray:
        self._steps += 1
        return np.full(len(observations), int(self._steps <= 10))
