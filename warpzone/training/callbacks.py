"""Callbacks of a training, a class a job. They serve every algorithm of SB3.

SB3 has no event for the end of an update: the next rollout follows at once. So what is
to be done now and then is done before a rollout, by `num_timesteps`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import accumulate
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import LinearSchedule

from warpzone.agents.networks import CRITIC
from warpzone.agents.policy import MovingAverage, Policy, weights_of
from warpzone.core.params import RecipeParams
from warpzone.envs.curriculum import STRETCH
from warpzone.episodes.table import Score
from warpzone.training.checkpoint import Checkpoint, like_parameters
from warpzone.training.curricula import Curriculum


@dataclass(eq=False)
class Callback(BaseCallback):
    """Base of the callbacks here, whose arguments are their fields."""

    KEPT: ClassVar[tuple[str, ...]] = ()
    """Attributes that the rest of the training depends on."""

    def __post_init__(self) -> None:
        super().__init__()

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.KEPT}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)

    def _on_step(self) -> bool:
        return True


@dataclass(eq=False)
class Progress(Callback):
    """Tells of agent steps as they are taken."""

    on_agent_steps: Callable[[int], object]

    def _on_step(self) -> bool:
        self.on_agent_steps(self.training_env.num_envs)
        return True


@dataclass(eq=False)
class EntropySchedule(Callback):
    """Lets the entropy coefficient fall in a straight line, as the learning rate does.

    SB3 takes no schedule for it.
    """

    start: float
    end: float

    def _on_rollout_end(self) -> None:
        rest = 1 - self.model.num_timesteps / self.model._total_timesteps
        schedule = LinearSchedule(self.start, self.end, end_fraction=1.0)
        self.model.ent_coef = schedule(rest)  # pyright: ignore[reportAttributeAccessIssue]


@dataclass(eq=False)
class CriticWarmup(Callback):
    """Teaches only the critic in the first agent steps.

    Where it knows nothing yet, its noise would undo what the actor knows.
    """

    agent_steps: int

    def _on_rollout_end(self) -> None:
        is_over = self.model.num_timesteps > self.agent_steps
        for name, part in self.model.policy.named_children():
            if name not in CRITIC:
                part.requires_grad_(is_over)


@dataclass(eq=False)
class CountSecondTries(Callback):
    """Counts where second tries begin: episodes that failed and were restarted.

    A second try that fails may be restarted, too, which counts again.
    """

    KEPT = ("counts",)

    counts: dict[str, dict[int, int]] = field(default_factory=dict, init=False)
    """By the level and the progress at which a `STRETCH` begins."""

    def _on_step(self) -> bool:
        # A wrapper of SB3's has reset infos of its own, which stay empty.
        infos = self.training_env.unwrapped.reset_infos
        for index, is_done in enumerate(self.locals["dones"]):
            if is_done and "restarted_at" in infos[index]:
                [level] = self.training_env.get_attr("level", [index])
                place = int(infos[index]["restarted_at"] // STRETCH) * STRETCH
                of_level = self.counts.setdefault(level, {})
                of_level[place] = of_level.get(place, 0) + 1
        return True

    @property
    def table(self) -> pd.DataFrame:
        """A row a level and stretch with second tries, in the order of the level.

        ``progress`` is where the stretch begins, in the world's unit, and
        ``second_tries`` how many began in it.
        """
        rows = [
            (level, place, count)
            for level, of_level in sorted(self.counts.items())
            for place, count in sorted(of_level.items())
        ]
        return pd.DataFrame(rows, columns=["level", "progress", "second_tries"])


@dataclass(eq=False)
class Periodic(Callback):
    """Does something before a rollout, every ``freq`` agent steps.

    That is at the start of the training, and at the end of its budget, too.
    """

    KEPT = ("last",)

    freq: int
    last: int = field(default=-1, init=False)
    """Agent steps when it was done last."""

    def on_due(self) -> None:
        raise NotImplementedError

    def _on_rollout_start(self) -> None:
        now, total = self.model.num_timesteps, self.model._total_timesteps
        following = (self.last // self.freq + 1) * self.freq
        # Not again where a training resumes.
        if now != self.last and now >= min(following, total):
            self.last = now
            self.on_due()

    def _on_training_end(self) -> None:
        # A training that was stopped early has done it before its last rollout.
        if self.model.num_timesteps >= self.model._total_timesteps:
            self._on_rollout_start()


@dataclass(eq=False)
class UpdateAverage(Periodic):
    """Takes what the policy has become into its moving average."""

    average: MovingAverage

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"average": self.average.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict({"last": state["last"]})
        self.average.load_state_dict(state["average"])

    def on_due(self) -> None:
        self.average.update_parameters(self.model.policy.player)  # pyright: ignore[reportArgumentType]


@dataclass(eq=False)
class KeepMilestones(Periodic):
    """Keeps the averaged policy of a few moments, to show how it learned."""

    KEPT = ("last", "weights")
    PERCENT = (0, 10, 30)
    """Of the budget; taken at the first row of the curve that has spent as much."""

    average: MovingAverage
    weights: dict[str, dict[str, torch.Tensor]] = field(
        default_factory=dict, init=False
    )
    """By the percentage."""

    def on_due(self) -> None:
        spent = 100 * self.model.num_timesteps / self.model._total_timesteps
        for percent in map(str, self.PERCENT):
            if percent not in self.weights and spent >= int(percent):
                self.weights[percent] = _copied_weights(self.average.policy)


@dataclass(eq=False)
class LearningCurve(Periodic):
    """Keeps a row of what happened since the last one, in every environment."""

    KEPT = ("last", "rows")

    rows: list[dict[str, Any]] = field(default_factory=list, init=False)
    """Counters are totals so far: ``agent_steps``, ``emulator_frames``. ``episodes``
    ended since the last row, restarts and those that began further on, too;
    ``episode_return``, ``progress`` and ``success_rate`` are their means, and
    ``reward_TERM`` of what each term of the reward paid in them: these sum up to the
    return. Then what SB3 says of the last update, and the parts of the `Score` where
    the policy was evaluated, each after ``eval_``."""
    _ended: list[dict[str, Any]] = field(default_factory=list, init=False)
    _frames_before: int = field(default=0, init=False)

    def _on_training_start(self) -> None:
        # Where a training resumes the environments are new, and have been replayed.
        if self.rows:
            self._frames_before = self.rows[-1]["emulator_frames"] - self._frames()

    def _on_step(self) -> bool:
        ends = zip(self.locals["dones"], self.locals["infos"], strict=True)
        self._ended += [info for is_done, info in ends if is_done]
        return True

    def on_due(self) -> None:
        columns = ["reward", "progress", "is_success"]
        ended = pd.DataFrame(self._ended, columns=columns)
        terms = pd.DataFrame([info.get("reward_terms", {}) for info in self._ended])
        self._ended = []
        said = self.logger.name_to_value
        self.rows.append(
            {
                "agent_steps": self.model.num_timesteps,
                "emulator_frames": self._frames_before + self._frames(),
                "episodes": len(ended),
                "episode_return": ended["reward"].mean(),
                "progress": ended["progress"].mean(),
                "success_rate": ended["is_success"].mean(),
            }
            | {f"reward_{name}": mean for name, mean in terms.mean().items()}
            | {
                name.removeprefix("train/"): float(value)
                for name, value in said.items()
                if name.startswith("train/") and name != "train/n_updates"
            }
            | {f"eval_{part.name}": None for part in fields(Score)}
        )
        self.logger.dump(self.model.num_timesteps)

    def _frames(self) -> int:
        """Return how many were emulated since the environments were made."""
        return sum(self.training_env.get_attr("emulated_frames"))


@dataclass(eq=False)
class FollowCurriculum(Periodic):
    """Tells the environments what their next episodes are drawn from.

    A curriculum learns of episodes that have ended, in the order of the environments.
    What it decides counts from the next agent step on. Each row of the curve has how
    far it is.
    """

    curriculum: Curriculum
    curve: LearningCurve

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"curriculum": self.curriculum.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict({"last": state["last"]})
        self.curriculum.load_state_dict(state["curriculum"])

    def _on_training_start(self) -> None:
        self._tell()

    def _on_step(self) -> bool:
        over = np.flatnonzero(self.locals["dones"]).tolist()
        if over:
            for ended in self.training_env.get_attr("ended", over):
                self.curriculum.add(ended)
            self._tell()
        return True

    def on_due(self) -> None:
        self.curve.rows[-1] |= self.curriculum.row()

    def _tell(self) -> None:
        self.training_env.set_attr("plan", self.curriculum.plan)


@dataclass(eq=False)
class Evaluate(Periodic):
    """Evaluates the averaged policy on episodes of its own and keeps the best weights.

    What has learned longer plays better, and evaluations are too short to tell good
    policies apart: the last policy is kept that is not significantly worse than the
    best.
    """

    KEPT = ("last", "best_weights", "best_row")

    average: MovingAverage
    score: Callable[[Policy], Score]
    curve: LearningCurve
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict, init=False)
    """Those of the policy to keep."""
    best_row: int = field(default=0, init=False)
    """Its row in the curve."""

    @property
    def scores(self) -> list[Score]:
        """All so far, as they are in the curve."""
        names = [part.name for part in fields(Score)]
        rows = [row for row in self.curve.rows if row["eval_episodes"] is not None]
        return [Score(*(row[f"eval_{name}"] for name in names)) for row in rows]

    def on_due(self) -> None:
        score = self.score(self.average.policy)
        is_best = all(score > earlier for earlier in self.scores)
        row = {f"eval_{name}": value for name, value in asdict(score).items()}
        self.curve.rows[-1] |= row
        if is_best or 0 < max(self.scores).interval.low <= score.success_rate:
            self.best_row = len(self.curve.rows) - 1
            self.best_weights = _copied_weights(self.average.policy)


@dataclass(eq=False)
class StopEarly(Callback):
    """Ends a training at its goal, or when the policy has collapsed."""

    evaluate: Evaluate
    recipe: RecipeParams
    reason: str | None = field(default=None, init=False)
    """``goal``: the success rate is significantly at least the recipe's goal.
    ``collapse``: as many evaluations in a row as its patience were bad, that is, their
    success rate was significantly below a share of that of the best one so far."""

    def _on_rollout_start(self) -> None:
        recipe, scores = self.recipe, self.evaluate.scores
        bad = [
            score.interval.high < recipe.collapse_share * best.success_rate
            for score, best in zip(scores, accumulate(scores, max), strict=True)
        ]
        if scores and scores[-1].interval.low >= recipe.goal_success_rate:
            self.reason = "goal"
        elif len(bad) >= recipe.patience and all(bad[-recipe.patience :]):
            self.reason = "collapse"

    def _on_step(self) -> bool:
        return self.reason is None


@dataclass(eq=False)
class KeepCheckpoint(Periodic):
    """Saves all that the rest of a training depends on, for any algorithm of SB3."""

    checkpoint: Checkpoint
    others: Sequence[Callback]
    """All other callbacks of the training, at most one of a class."""

    def on_due(self) -> None:
        self.checkpoint.save(
            {
                "agent_steps": self.last,
                "model": _model_state(self.model),
                "episodes": self.training_env.env_method("log"),
                "others": {type(one).__name__: one.state_dict() for one in self.others},
            }
        )

    def restore(self, model: BaseAlgorithm) -> None:
        """Make a model, its environments and the other callbacks what they were."""
        state, envs = self.checkpoint.state, model.get_env()
        assert envs is not None
        self.last = state["agent_steps"]
        _load_model_state(model, state["model"])
        for one in self.others:
            one.load_state_dict(state["others"][type(one).__name__])
        for index, log in enumerate(state["episodes"]):
            [steps] = envs.env_method("replay", log, indices=[index])
            for _ in steps:
                pass


def _copied_weights(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in weights_of(policy).items()}


def _model_state(model: BaseAlgorithm) -> dict[str, Any]:
    """Return all that an algorithm depends on between two rollouts."""
    is_on_gpu = model.device.type == "cuda"
    replay = getattr(model, "replay_buffer", None)
    return {
        "parameters": model.get_parameters(),
        "model": _plain(model),
        "replay": {} if replay is None else replay.state_dict(),
        # What an actor remembers of the episodes that go on.
        "memories": getattr(model, "_last_lstm_states", None),
        "torch_rng": torch.get_rng_state(),
        "gpu_rngs": torch.cuda.get_rng_state_all() if is_on_gpu else [],
        "numpy_rng": np.random.get_state(legacy=False),  # noqa: NPY002
        "actions_rng": model.action_space.np_random.bit_generator.state,
    }


def _load_model_state(model: BaseAlgorithm, state: dict[str, Any]) -> None:
    model.set_parameters(state["parameters"], device=model.device)
    for name in state["parameters"]:
        if isinstance(part := attrgetter(name)(model), torch.optim.Optimizer):
            like_parameters(part)
    vars(model).update(state["model"])
    if state["replay"]:
        model.replay_buffer.load_state_dict(state["replay"])  # pyright: ignore[reportAttributeAccessIssue]
    if state["memories"] is not None:
        model._last_lstm_states = RNNStates(  # pyright: ignore[reportAttributeAccessIssue]
            *(tuple(one.to(model.device) for one in of) for of in state["memories"])
        )
    torch.set_rng_state(state["torch_rng"])
    torch.cuda.set_rng_state_all(state["gpu_rngs"])
    np.random.set_state(state["numpy_rng"])  # noqa: NPY002
    model.action_space.np_random.bit_generator.state = state["actions_rng"]


def _plain(thing: object) -> dict[str, Any]:
    """Return the numbers and arrays of an object, and its dictionaries of arrays."""

    def is_plain(value: Any) -> bool:
        if isinstance(value, dict):
            return bool(value) and all(
                isinstance(v, np.ndarray) for v in value.values()
            )
        return isinstance(value, int | float | np.ndarray)

    return {name: value for name, value in vars(thing).items() if is_plain(value)}
