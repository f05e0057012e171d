from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from warpzone.agents.dagger import Dagger, Lesson
from warpzone.game.actions import RIGHT, B
from warpzone.game.env import MarioEnv
from warpzone.params import GameParams, NoiseParams, PretrainBCParams, load_params

PARAMS = Path(__file__).parents[1] / "params.yaml"


class AlwaysRuns:
    """Runs into the first Goomba, and into whatever comes next."""

    def __init__(self, env: MarioEnv) -> None:
        self._action = env.buttons.index(RIGHT | B)

    def act(
        self, observations: np.ndarray, rngs: Sequence[np.random.Generator]
    ) -> np.ndarray:
        return np.full(len(observations), self._action)


@pytest.fixture(scope="module")
def fast_game(game: GameParams) -> GameParams:
    pytest.importorskip("stable_retro")
    return game.model_copy(update={"emulator": "fceumm"})


@pytest.fixture(scope="module")
def bc() -> PretrainBCParams:
    changes = {"rewind": (10, 20), "beyond": (5, 5), "max_rescues": 2}
    return load_params(PARAMS).pretrain_bc.model_copy(update=changes)


@pytest.fixture(scope="module")
def learner(fast_game: GameParams, noise: NoiseParams) -> AlwaysRuns:
    return AlwaysRuns(MarioEnv(fast_game, noise))


@pytest.fixture(scope="module")
def lessons(
    fast_game: GameParams,
    noise: NoiseParams,
    bc: PretrainBCParams,
    learner: AlwaysRuns,
) -> list[Lesson]:
    return Dagger(fast_game, noise, bc, seats=3).play(learner, [5, 6, 7])


def test_the_planner_shows_what_leads_past_each_death(lessons: list[Lesson]) -> None:
    for lesson in lessons:
        # Two rescues, and the third death ends the episode.
        assert lesson.deaths == 3
        assert not lesson.is_cleared
        # Each is 10 to 20 steps before the death, unless a further attempt was
        # needed, and 5 after it.
        assert 2 * 15 <= len(lesson.shown) <= 2 * 65
        observations = lesson.shown.observations
        assert observations.shape == (len(lesson.shown), 4, 84, 84)


def test_a_lesson_jumps_where_the_learner_ran(
    lessons: list[Lesson], fast_game: GameParams, noise: NoiseParams
) -> None:
    buttons = MarioEnv(fast_game, noise).buttons
    for lesson in lessons:
        assert any(buttons[action] != RIGHT | B for action in lesson.shown.actions)


def test_a_learner_that_needs_no_help_learns_nothing(
    fast_game: GameParams, noise: NoiseParams, bc: PretrainBCParams, learner: AlwaysRuns
) -> None:
    # The episode ends before the first Goomba is reached.
    short = fast_game.model_copy(update={"time_limit": 8})
    [lesson] = Dagger(short, noise, bc, seats=1).play(learner, [5])
    assert (lesson.deaths, len(lesson.shown)) == (0, 0)


def test_lessons_do_not_depend_on_who_sits_beside(
    lessons: list[Lesson],
    fast_game: GameParams,
    noise: NoiseParams,
    bc: PretrainBCParams,
    learner: AlwaysRuns,
) -> None:
    alone = Dagger(fast_game, noise, bc, seats=1).play(learner, [6, 5])
    for lesson, other in zip(alone, [lessons[1], lessons[0]], strict=True):
        assert np.array_equal(lesson.shown.observations, other.shown.observations)
        assert np.array_equal(lesson.shown.actions, other.shown.actions)
        assert lesson.agent_steps == other.agent_steps
