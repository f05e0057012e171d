from collections.abc import Sequence

import numpy as np
import pytest
import torch

from warpzone.agents.agent import RandomAgent
from warpzone.agents.cloning import Demonstration
from warpzone.agents.dagger import ask_teacher
from warpzone.agents.policy import (
    Policy,
    action_logits,
    build_policy,
    make_deterministic,
)
from warpzone.demos.recording import Recording, watch
from warpzone.evaluation import play_episodes
from warpzone.params import EmulatorName, GameParams, NoiseParams

SEEDS = [5, 6, 7]


@pytest.fixture(params=["nes-py", "fceumm"])
def short_game(request: pytest.FixtureRequest, game: GameParams) -> GameParams:
    emulator: EmulatorName = request.param
    if emulator == "fceumm":
        pytest.importorskip("stable_retro")
    return game.model_copy(update={"emulator": emulator, "time_limit": 20})


@pytest.fixture
def recordings(short_game: GameParams, noise: NoiseParams) -> list[Recording]:
    _, recordings = play_episodes(RandomAgent(7), short_game, noise, SEEDS, 2)
    return recordings


@pytest.fixture
def teacher(short_game: GameParams) -> Policy:
    make_deterministic(1)
    return build_policy(short_game, "ram")


def test_the_teacher_is_asked_about_what_was_seen(
    recordings: list[Recording],
    teacher: Policy,
    short_game: GameParams,
    noise: NoiseParams,
) -> None:
    done = []
    asked, stuck = ask_teacher(
        teacher, 0.5, recordings, short_game, noise, lambda: done.append(1)
    )
    assert not stuck
    assert len(done) == 3
    for recording, demonstration in zip(recordings, asked, strict=True):
        pictures, actions = watch(recording, short_game, "here")
        ram, _ = watch(recording, short_game, "here", "ram")
        assert len(actions) == 20
        assert np.array_equal(demonstration.observations, pictures)
        # Each picture is kept once, though most are seen four times.
        first, last = np.lib.array_utils.byte_bounds(demonstration.observations)
        assert last - first == (len(pictures) + 3) * pictures[0, 0].nbytes
        # Half the temperature doubles the logits.
        logits = torch.from_numpy(action_logits(teacher, ram))
        expected = torch.softmax(2 * logits, dim=1).numpy()
        assert demonstration.probabilities.dtype == np.float32
        assert np.allclose(demonstration.probabilities, expected, atol=1e-6)


def test_a_teacher_without_temperature_is_certain(
    recordings: list[Recording],
    teacher: Policy,
    short_game: GameParams,
    noise: NoiseParams,
) -> None:
    [first, *_], _ = ask_teacher(teacher, 0.0, recordings, short_game, noise)
    ram, _ = watch(recordings[0], short_game, "here", "ram")
    likeliest = action_logits(teacher, ram).argmax(axis=1)
    assert np.array_equal(first.probabilities, np.eye(7)[likeliest])


def ask_who_stops(
    teacher: Policy, game: GameParams, noise: NoiseParams
) -> tuple[list[Recording], list[Demonstration], list[Demonstration]]:
    """Return episodes that end for want of progress, and what was told of them."""
    _, recordings = play_episodes(Stops(), game, noise, SEEDS, len(SEEDS))
    return recordings, *ask_teacher(teacher, 0.5, recordings, game, noise)


def test_where_the_clone_is_stuck_any_action_is_as_good(
    teacher: Policy, short_game: GameParams, noise: NoiseParams
) -> None:
    game = short_game.model_copy(update={"stuck_limit": 10, "time_limit": 100})
    recordings, asked, stuck = ask_who_stops(teacher, game, noise)
    for recording, told, untold in zip(recordings, asked, stuck, strict=True):
        pictures, _ = watch(recording, game, "here")
        assert len(pictures) < 34
        # Four steps after the last new ground all four pictures show him stand.
        assert len(told) == len(told.probabilities) == len(pictures) - 6
        assert np.array_equal(told.observations, pictures[:-6])
        assert np.array_equal(untold.observations, pictures[-6:])
        assert np.array_equal(untold.probabilities, np.full((6, 7), np.float32(1 / 7)))


def test_the_teacher_is_asked_to_the_end_where_being_stuck_ends_early(
    teacher: Policy, short_game: GameParams, noise: NoiseParams
) -> None:
    game = short_game.model_copy(update={"stuck_limit": 3, "time_limit": 100})
    recordings, asked, stuck = ask_who_stops(teacher, game, noise)
    assert not stuck
    assert [len(told) for told in asked] == [len(r.decided) for r in recordings]


class Stops:
    """Runs to the right for ten agent steps."""

    def __init__(self) -> None:
        self._steps = 0

    def act(
        self, observations: np.ndarray, rngs: Sequence[np.random.Generator]
    ) -> np.ndarray:
        self._steps += 1
        return np.full(len(observations), int(self._steps <= 10))


def test_an_episode_of_other_noise_is_refused(
    recordings: list[Recording],
    teacher: Policy,
    short_game: GameParams,
    no_noise: NoiseParams,
) -> None:
    with pytest.raises(RuntimeError, match="the episode of seed 5 went another way"):
        ask_teacher(teacher, 0.5, recordings, short_game, no_noise)
