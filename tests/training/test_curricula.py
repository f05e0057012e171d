"""Curricula do what their names say, on the real game."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import batched, cycle, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from warpzone.core.errors import InputError
from warpzone.core.params import (
    BackwardParams,
    DemoStatesParams,
    MixtureParams,
    SequenceParams,
)
from warpzone.envs.curriculum import MARK_EVERY, Ended, Plan, TrainingEnv
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.replayable import ReplayableEnv, Snapshot
from warpzone.envs.vec_env import ThreadedVecEnv
from warpzone.episodes.recording import read_recordings
from warpzone.training.checkpoint import Checkpoint
from warpzone.training.curricula import (
    Curriculum,
    LevelSequence,
    Progression,
    make_curriculum,
    stretches,
)
from warpzone.training.train import train

CLEARS = Path(__file__).parents[1] / "data" / "clears.jsonl"
BACKWARD = BackwardParams(name="backward", success_rate=0.5, window=2, stages=4)
SEQUENCE = SequenceParams(
    name="sequence", success_rate=0.5, window=4, earlier_share=0.25
)


def starts_of(*lengths: int) -> list[Any]:
    """Return starts along demonstrations that have so many of them."""
    return [
        SimpleNamespace(decisions=bytes(MARK_EVERY * place))
        for length in lengths
        for place in range(length)
    ]


# ------------------------------------------------------------------ by hand


def test_a_stage_is_passed_at_the_success_rate_over_the_window() -> None:
    one = Progression(success_rate=0.75, window=4, last=2)
    stages = []
    for succeeded in (1, 1, 1, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1):
        one.add(bool(succeeded))
        stages.append(one.stage)
    # 3 of 4 at the 4th; then 3 of the next 4; the last stage is never left.
    assert stages == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    assert one.recent == [True] * 4


def test_a_window_is_of_the_last_episodes() -> None:
    one = Progression(success_rate=0.5, window=3, last=1)
    for succeeded in (0, 0, 0, 1):
        one.add(bool(succeeded))
    assert (one.stage, one.recent) == (0, [False, False, True])
    one.add(True)
    assert (one.stage, one.recent) == (1, [])


def test_a_rate_that_is_just_reached_is_reached() -> None:
    # 0.07 times 100 is a little more than 7.
    one = Progression(success_rate=0.07, window=100, last=1)
    for episode in range(100):
        one.add(episode < 7)
    assert one.stage == 1


def test_each_demonstration_is_cut_into_stretches_of_equal_length() -> None:
    assert stretches(starts_of(4, 6), 2) == [[0, 1, 4, 5, 6], [2, 3, 7, 8, 9]]
    assert stretches(starts_of(4), 4) == [[0], [1], [2], [3]]
    # More stretches than starts: some have none.
    assert stretches(starts_of(2), 5) == [[0], [1]]


def test_backward_begins_near_the_end_and_ends_at_the_levels_start(
    recipe: Callable[..., Any],
) -> None:
    starts = {"1-1": starts_of(4), "1-2": starts_of(8)}
    one = make_curriculum("x", recipe(curriculum=BACKWARD), "t", list(starts), starts)
    assert one.plan == Plan(1.0, {"1-1": [3], "1-2": [6, 7]})
    failed, succeeded = (
        Ended("1-1", 3, is_second_try=False, is_success=is_success)
        for is_success in (False, True)
    )
    # Second tries, other stretches and other levels do not count for this one.
    for ended in (
        succeeded._replace(is_second_try=True),
        succeeded._replace(start=2),
        succeeded._replace(start=None),
        succeeded._replace(level="1-2"),
        succeeded,
        succeeded._replace(level="1-2", start=7),
    ):
        one.add(ended)
    assert one.plan == Plan(1.0, {"1-1": [3], "1-2": [6, 7]})
    assert one.row() == {
        "curriculum_stage_1-1": 0,
        "curriculum_success_rate_1-1": 1.0,
        "curriculum_stage_1-2": 0,
        "curriculum_success_rate_1-2": 1.0,
    }
    one.add(failed)
    assert one.plan.starts == {"1-1": [2], "1-2": [6, 7]}
    # One that had begun before says nothing now.
    one.add(succeeded)
    for start in (2, 2, 1, 1, 0, 0):
        one.add(succeeded._replace(start=start))
    assert one.plan.starts["1-1"] == []
    row = one.row()
    assert row["curriculum_stage_1-1"] == 4
    assert np.isnan(row["curriculum_success_rate_1-1"])
    one.add(succeeded._replace(start=None))
    assert one.row()["curriculum_success_rate_1-1"] == 1.0


def test_a_sequence_goes_on_and_keeps_a_share_of_earlier_levels() -> None:
    one = LevelSequence(SEQUENCE, ["1-1", "1-2", "1-1", "1-3"])
    assert one.plan == Plan(levels={"1-1": 1.0})
    succeeded = Ended("1-1", None, is_second_try=False, is_success=True)
    shares = []
    for level in ("1-1", "1-2", "1-3"):
        # Second tries and other levels do not count.
        one.add(succeeded._replace(is_second_try=True, level=level))
        one.add(succeeded._replace(level="1-4"))
        for is_success in (False, True, False, True):
            one.add(succeeded._replace(level=level, is_success=is_success))
        shares.append(one.plan.levels)
    assert shares == [
        {"1-1": 0.25, "1-2": 0.75},
        {"1-1": 0.125, "1-2": 0.125, "1-3": 0.75},
        {"1-1": 0.125, "1-2": 0.125, "1-3": 0.75},
    ]
    assert one.row() == {"curriculum_stage": 2, "curriculum_success_rate": 0.5}


def test_curricula_without_stages_are_plans(recipe: Callable[..., Any]) -> None:
    starts = {"1-1": starts_of(4), "1-2": starts_of(4)}

    def plan(**changes: Any) -> Plan:
        one = make_curriculum("x", recipe(**changes), "t", list(starts), starts)
        assert one.row() == {}
        return one.plan

    assert plan() == plan(curriculum={"name": "level-start"}) == Plan(0.0)
    assert plan(demo_start_probability=0.25) == Plan(0.25)
    states = DemoStatesParams(name="demo-states", probability=0.25)
    assert plan(curriculum=states) == Plan(0.25)
    weights = {"1-1": 2.0, "1-2": 1.0}
    mixture = MixtureParams(name="mixture", weights=weights)
    assert plan(curriculum=mixture) == Plan(levels=weights)


@pytest.mark.parametrize(
    "curriculum", [BACKWARD, DemoStatesParams(name="demo-states", probability=0.5)]
)
def test_a_level_without_a_demonstration_is_told(
    recipe: Callable[..., Any], curriculum: Any
) -> None:
    starts = {"1-1": starts_of(4), "1-2": []}
    with pytest.raises(InputError) as raised:
        make_curriculum("x", recipe(curriculum=curriculum), "t", list(starts), starts)
    assert str(raised.value) == (
        f"params.yaml: recipes.x.curriculum.name = {curriculum.name!r} needs a "
        "demonstration of 1-2 by this emulator, and there is none: demonstrate it, or "
        "choose another curriculum"
    )


def test_weights_of_other_levels_are_told_by_the_stage_too(
    recipe: Callable[..., Any],
) -> None:
    mixture = MixtureParams(name="mixture", weights={"1-1": 2.0, "1-4": 1.0})
    with pytest.raises(InputError) as raised:
        make_curriculum("x", recipe(curriculum=mixture), "t", ["1-1", "1-2"], {})
    assert str(raised.value) == (
        "params.yaml: recipes.x.curriculum.weights lacks ['1-2'] and has unknown "
        "['1-4']: task t has the levels 1-1, 1-2"
    )


# ------------------------------------------------------------------ in trainings


class ShortMario(MarioEnv):
    """Who lives for 8 agent steps has succeeded."""

    SUCCESSES = ("clear", "time_limit")


@pytest.fixture
def tiny(tiny_mario: Any) -> Any:
    """Tiny RAM-only worlds."""
    return replace(tiny_mario, key="state")


def run(
    world: Any,
    rl: Any,
    curriculum: Curriculum,
    make: Callable[..., ReplayableEnv],
    levels: Sequence[str],
    starts: Sequence[Snapshot] = (),
    **more: Any,
) -> tuple[Any, list[tuple[Any, Ended]]]:
    """Train; return the result, and each episode that ended under which plan."""
    shares = 0.0, rl.restart_probability, curriculum.plan
    makers = [
        partial(TrainingEnv, partial(make, level), starts, *shares)
        for level in islice(cycle(levels), rl.n_envs)
    ]
    seen: list[tuple[Any, Ended]] = []

    class Watched(type(curriculum)):
        def add(self, ended: Ended) -> None:
            seen.append((self.plan, ended))
            super().add(ended)

    curriculum.__class__ = Watched
    start = world.policy()
    with torch.no_grad():
        # It runs to the right.
        start.get_parameter("action_net.bias")[3] = 1e6
    with closing(ThreadedVecEnv(makers, world.threads)) as envs:
        training = train(
            envs,
            world.agent(start),
            world.name,
            rl,
            5,
            lambda _: SimpleNamespace(),  # pyright: ignore[reportArgumentType]
            torch.device("cpu"),
            curriculum=curriculum,
            **more,
        )
    return training, seen


def short(world: Any) -> Callable[..., ReplayableEnv]:
    noise = world.noise.model_dump()
    return partial(ShortMario, **world.kwargs, **noise, obs_type=("state",))
