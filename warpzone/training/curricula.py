"""Curricula: where episodes of a training begin, by the names that recipes give them.

Two of them change with what the agent can do. They decide between agent steps, from
episodes that have ended, so no thread plays a part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from warpzone.core.errors import InputError
from warpzone.core.params import (
    BackwardParams,
    DemoStatesParams,
    MixtureParams,
    RecipeParams,
    SequenceParams,
)
from warpzone.envs.curriculum import Ended, Plan
from warpzone.envs.replayable import Snapshot


@dataclass
class Progression:
    """Stages that are passed one by one, and never taken back.

    A stage is passed when its last ``window`` episodes have succeeded at least at
    ``success_rate``.
    """

    success_rate: float
    window: int
    last: int
    """The stage that is never left."""
    stage: int = 0
    recent: list[bool] = field(default_factory=list)
    """Which of the stage's last episodes succeeded, ``window`` at most."""

    def add(self, is_success: bool) -> None:
        """Count an episode of the stage."""
        self.recent = [*self.recent, is_success][-self.window :]
        is_full = len(self.recent) == self.window
        is_reached = sum(self.recent) / self.window >= self.success_rate
        if is_full and is_reached and self.stage < self.last:
            self.stage += 1
            self.recent = []


class Curriculum:
    """What the next episodes are drawn from. This one never changes.

    Attributes:
        progressions: By level, or under any name if there is one only.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.progressions: dict[str, Progression] = {}

    @property
    def plan(self) -> Plan:
        """What the next episodes are drawn from."""
        return self._plan

    def add(self, ended: Ended) -> None:
        """Take note of an episode that has ended."""

    def row(self) -> dict[str, float]:
        """Return how far it is, as columns of the learning curve.

        ``curriculum_stage`` counts from 0; ``curriculum_success_rate`` is that of the
        stage's last episodes so far. Where levels have stages of their own, the level
        follows each name.
        """
        columns: dict[str, float] = {}
        for level, one in self.progressions.items():
            of = f"_{level}" if len(self.progressions) > 1 else ""
            rate = sum(one.recent) / len(one.recent) if one.recent else float("nan")
            columns[f"curriculum_stage{of}"] = one.stage
            columns[f"curriculum_success_rate{of}"] = rate
        return columns

    def state_dict(self) -> dict[str, Any]:
        return {level: asdict(one) for level, one in self.progressions.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.progressions = {level: Progression(**one) for level, one in state.items()}


class Backward(Curriculum):
    """Backward along the demonstrations, at last from the level's start.

    Salimans and Chen 2018, https://arxiv.org/abs/1812.03381. Their start moves back as
    soon as a share of the episodes does as well as the demonstration; ours as soon as
    the success rate over a window is reached. Each level has its own stage.

    Args:
        params: How far and when it moves.
        starts: States along demonstrations, by level, one or more each.
    """

    def __init__(
        self, params: BackwardParams, starts: Mapping[str, Sequence[Snapshot]]
    ) -> None:
        self._stretches = {
            level: stretches(of_level, params.stages)[::-1]
            for level, of_level in starts.items()
        }
        self.progressions = {
            level: Progression(params.success_rate, params.window, len(of_level))
            for level, of_level in self._stretches.items()
        }

    @property
    def plan(self) -> Plan:
        return Plan(1.0, {level: self._starts(level) for level in self.progressions})

    def add(self, ended: Ended) -> None:
        # One that began at an earlier stage says nothing of this one.
        starts = self._starts(ended.level) or [None]
        if ended.start in starts and not ended.is_second_try:
            self.progressions[ended.level].add(ended.is_success)

    def _starts(self, level: str) -> Sequence[int]:
        """Return which starts a level's episodes begin at; none: the level's start."""
        stage, of_level = self.progressions[level].stage, self._stretches[level]
        return of_level[stage] if stage < len(of_level) else []


class LevelSequence(Curriculum):
    """The levels one after another; earlier ones are played now and then.

    A level is passed by episodes that begin at its start.

    Args:
        params: When the next one comes, and how often earlier ones are played.
        levels: In their order.
    """

    def __init__(self, params: SequenceParams, levels: Sequence[str]) -> None:
        self._levels = tuple(dict.fromkeys(levels))
        self._earlier_share = params.earlier_share
        last = len(self._levels) - 1
        self.progressions = {"": Progression(params.success_rate, params.window, last)}

    @property
    def plan(self) -> Plan:
        stage = self.progressions[""].stage
        earlier = dict.fromkeys(
            self._levels[:stage], self._earlier_share / max(stage, 1)
        )
        share = 1 - self._earlier_share if stage else 1.0
        return Plan(levels=earlier | {self._levels[stage]: share})

    def add(self, ended: Ended) -> None:
        is_newest = ended.level == self._levels[self.progressions[""].stage]
        if is_newest and not ended.is_second_try:
            self.progressions[""].add(ended.is_success)


class NoDemonstrationError(InputError):
    """A curriculum needs a demonstration of a level, and there is none."""

    def __init__(self, name: str, recipe: RecipeParams, level: str) -> None:
        assert recipe.curriculum is not None
        super().__init__(
            f"params.yaml: recipes.{name}.curriculum.name = "
            f"{recipe.curriculum.name!r} needs a demonstration of {level} by this "
            "emulator, and there is none: demonstrate it, or choose another curriculum"
        )


def needs_every_level(recipe: RecipeParams) -> bool:
    """Whether the curriculum needs a demonstration of every level."""
    return isinstance(recipe.curriculum, DemoStatesParams | BackwardParams)


def make_curriculum(
    name: str,
    recipe: RecipeParams,
    task: str,
    levels: Sequence[str],
    starts: Mapping[str, Sequence[Snapshot]],
) -> Curriculum:
    """Return the curriculum of a recipe on a task.

    Args:
        name: The recipe's.
        recipe: What it says.
        task: The task's name.
        levels: Those of the task.
        starts: States along demonstrations, by level.

    Raises:
        InputError: If it does not fit the levels, or if no demonstration of a level can
            be used and it needs one.
    """
    params = recipe.curriculum
    try:
        recipe.check_levels(f"recipes.{name}", task, levels)
    except ValueError as error:
        raise InputError(f"params.yaml: {error}") from error
    for level in levels if needs_every_level(recipe) else ():
        if not starts[level]:
            raise NoDemonstrationError(name, recipe, level)
    match params:
        case BackwardParams():
            return Backward(params, starts)
        case SequenceParams():
            return LevelSequence(params, levels)
        case DemoStatesParams():
            return Curriculum(Plan(params.probability))
        case MixtureParams():
            return Curriculum(Plan(levels=params.weights))
    return Curriculum(Plan(recipe.demo_start_probability))


def stretches(starts: Sequence[Snapshot], count: int) -> list[list[int]]:
    """Return the numbers of the starts in each stretch, the first one first.

    Each demonstration is cut into ``count`` stretches of equal length. Those without a
    start are left out.

    Args:
        starts: Those along one demonstration after the other. Each begins with a start
            before its first decision.
        count: How many.
    """
    demonstrations: list[list[int]] = []
    for number, start in enumerate(starts):
        if not start.decisions:
            demonstrations.append([])
        demonstrations[-1].append(number)
    found: list[list[int]] = [[] for _ in range(count)]
    for numbers in demonstrations:
        for place, number in enumerate(numbers):
            found[place * count // len(numbers)].append(number)
    return [numbers for numbers in found if numbers]
