"""Curricula do what their names say, on the real game."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import batched, cycle, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import torch

from warpzone.core.errors import InputError
from warpzone.core.params import (
    BackwardParams,
    CurriculumParams,
    DemoStatesParams,
    MixtureParams,
    SequenceParams,
)
from warpzone.envs.curriculum import MARK_EVERY, Ended, Plan, TrainingEnv
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.replayable import ReplayableEnv, Snapshot
from warpzone.envs.vec_env import ThreadedVecEnv
from warpzone.episodes.recording import read_recordings
from warpzone.episodes.table import Score
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


def test_the_guide_has_every_curriculum_with_its_keys() -> None:
    guide = Path(__file__).parents[2] / "docs" / "training.md"
    rows = [line for line in guide.read_text().splitlines() if line.startswith("| `")]
    for section in get_args(CurriculumParams):
        [name] = get_args(section.model_fields["name"].annotation)
        [row] = (line for line in rows if line.startswith(f"| `{name}`"))
        assert all(f"`{key}`" in row for key in section.model_fields if key != "name")


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
            lambda _: Score(0.0, 0.0, 1),
            torch.device("cpu"),
            curriculum=curriculum,
            **more,
        )
    return training, seen


def short(world: Any) -> Callable[..., ReplayableEnv]:
    noise = world.noise.model_dump()
    return partial(ShortMario, **world.kwargs, **noise, obs_type=("state",))


def test_a_sequence_is_followed_level_by_level(
    tiny: Any, recipe: Callable[..., Any]
) -> None:
    rl = recipe(total_timesteps=256, n_envs=4, log_freq=64, eval_freq=10**9)
    levels = ["1-1", "2-1", "1-3"]
    one = LevelSequence(SEQUENCE, levels)
    training, seen = run(tiny, rl, one, short(tiny), levels)
    # 4 environments, 8 agent steps an episode: one promotion after each 4 successes.
    assert len(seen) == 256 // 8
    assert [ended.level for _, ended in seen[:4]] == ["1-1"] * 4
    assert all(ended.level in plan.levels for plan, ended in seen[8:])
    assert {ended.level for _, ended in seen} == set(levels)
    stages = training.curve["curriculum_stage"].tolist()
    assert stages == sorted(stages)
    assert (stages[0], stages[-1]) == (0, 2)
    assert training.curve["curriculum_success_rate"].iloc[-1] == 1.0


def test_a_mixture_is_drawn_by_its_weights(
    tiny: Any, recipe: Callable[..., Any]
) -> None:
    rl = recipe(total_timesteps=384, n_envs=8, log_freq=384, eval_freq=10**9)
    one = Curriculum(Plan(levels={"1-1": 1.0, "2-1": 3.0}))
    one.progressions = {"": Progression(1.0, 1, 0)}
    _, seen = run(tiny, rl, one, short(tiny), ["1-1", "2-1"])
    played = [ended.level for _, ended in seen]
    assert len(played) == 48
    # Four standard deviations.
    assert played.count("2-1") == pytest.approx(36, abs=12)


@pytest.fixture
def shown(tiny: Any) -> Iterator[list[Snapshot]]:
    """States along a clear of 1-1, good while its env is open."""
    [clear] = [one for one in read_recordings(CLEARS) if one.level == "1-1"]
    kwargs = tiny.kwargs | {"time_limit": 2000}
    with closing(replace(tiny, kwargs=kwargs).make()) as env:
        env.begin(clear.no_ops)
        starts = []
        codes = batched(clear.held[clear.no_ops :], clear.frame_skip, strict=False)
        for wanted, held in zip(clear.decided, codes, strict=True):
            if len(env.decisions) % MARK_EVERY == 0:
                starts.append(env.snapshot())
            env.play_step(wanted, bytes(held))
        assert env.outcome == "success"
        yield starts


def backward(
    world: Any,
    rl: Any,
    starts: Sequence[Snapshot],
    stages: int = 40,
    **more: Any,
) -> tuple[Any, list[tuple[Any, Ended]]]:
    """Train backward along a demonstration of 1-1 with an agent that only runs."""
    params = BACKWARD.model_copy(update={"stages": stages})
    one = make_curriculum(
        "x",
        rl.model_copy(update={"curriculum": params}),
        "1-1",
        ["1-1"],
        {"1-1": starts},
    )
    world = world.but(time_limit=2000, stuck_limit=5)
    return run(world, rl, one, world.make, ["1-1"], starts, **more)


def test_backward_moves_back_along_a_demonstration(
    tiny: Any, recipe: Callable[..., Any], shown: list[Snapshot]
) -> None:
    rl = recipe(total_timesteps=192, n_envs=4, log_freq=32, eval_freq=10**9)
    training, seen = backward(tiny, rl, shown)
    stages = training.curve["curriculum_stage"].tolist()
    assert stages == sorted(stages)
    assert stages[0] == 0
    assert stages[-1] >= 1
    # The last start, then the last but one, ...
    begun = [ended.start for _, ended in seen if not ended.is_second_try]
    assert begun[:4] == [len(shown) - 1] * 4
    last = len(shown) - 1
    assert set(begun) == {last - stage for stage in range(stages[-1] + 1)}


@pytest.mark.parametrize("name", ["sequence", "backward"])
def test_threads_change_no_byte_of_a_curriculum(
    tiny: Any, recipe: Callable[..., Any], shown: list[Snapshot], name: str
) -> None:
    rl = recipe(total_timesteps=96, n_envs=4, restart_probability=0.5, eval_freq=10**9)
    ours, theirs = (
        follow(name, replace(tiny, threads=threads), rl, shown) for threads in (1, 2)
    )
    assert ours[1] == theirs[1]
    assert ours[0].curve.to_csv() == theirs[0].curve.to_csv()
    assert ours[0].curve["curriculum_stage"].iloc[-1] > 0


class Killed(Exception):
    """Stands for SIGKILL, as far as one process can."""


@pytest.mark.parametrize("name", ["sequence", "backward"])
def test_a_curriculum_resumes_to_the_same_bytes(
    tiny: Any,
    recipe: Callable[..., Any],
    shown: list[Snapshot],
    name: str,
    weights: Callable[..., Any],
    are_equal: Callable[..., bool],
    tmp_path: Path,
) -> None:
    rl = recipe(
        total_timesteps=120,
        n_envs=4,
        n_steps=6,
        batch_size=24,
        log_freq=24,
        eval_freq=10**9,
        restart_probability=0.5,
    )
    whole, seen = follow(name, tiny, rl, shown)
    steps = 0

    def kill(more: int) -> None:
        nonlocal steps
        steps += more
        if steps == 28:
            raise Killed

    def train_on() -> tuple[Any, list[tuple[Any, Ended]]]:
        kept = Checkpoint(tmp_path / "kept")
        return follow(name, tiny, rl, shown, checkpoint=kept, on_agent_steps=kill)

    # 4 agent steps after the next checkpoint, again and again.
    for _ in range(3):
        steps = 0
        with pytest.raises(Killed):
            train_on()
    # Past the place where it is killed.
    steps = 30
    resumed, after = train_on()
    # It had been promoted by then.
    assert whole.curve["curriculum_stage"].iloc[-2] > 0
    assert resumed.curve.to_csv() == whole.curve.to_csv()
    assert are_equal(weights(resumed.policy), weights(whole.policy))
    assert seen[-len(after) :] == after


def follow(
    name: str, world: Any, rl: Any, shown: list[Snapshot], **more: Any
) -> tuple[Any, list[tuple[Any, Ended]]]:
    if name == "backward":
        return backward(world, rl, shown, **more)
    levels = ["1-1", "2-1", "1-3"]
    params = SEQUENCE.model_copy(update={"window": 2})
    return run(world, rl, LevelSequence(params, levels), short(world), levels, **more)
