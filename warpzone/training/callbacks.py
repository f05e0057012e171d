"""Callbacks of a training, a class a job. They serve every algorithm of SB3.

SB3 has no event for the end of an update: the next rollout follows at once. So what is
to be done now and then is done before a rollout, by `num_timesteps`.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pandas as pd
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from warpzone.agents.policy import Policy, set_weights, weights_of
from warpzone.core.params import RecipeParams
from warpzone.episodes.table import Score
from warpzone.training.checkpoint import Checkpoint, like_parameters
from warpzone.training.ema import MovingAverage


class Periodic(BaseCallback):
    """Does something before a rollout, whenever so many agent steps are over.

    That is at the start of the training, and at the end of its budget, too.

    Args:
        freq: Agent steps from one time to the next.
        total_timesteps: The budget.
    """

    def __init__(self, freq: int, total_timesteps: int) -> None:
        super().__init__()
        self._freq = freq
        self._total = total_timesteps
        self._next = 0
        self._last = -1

    def on_due(self) -> None:
        """Do it."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Return all that the rest of the training depends on."""
        return {"next": self._next, "last": self._last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._next, self._last = state["next"], state["last"]

    def _on_rollout_start(self) -> None:
        now = self.model.num_timesteps
        # Not again where a training resumes.
        if now != self._last and (now >= self._next or now >= self._total):
            self._last, self._next = now, (now // self._freq + 1) * self._freq
            self.on_due()

    def _on_training_end(self) -> None:
        # A training that was stopped early has done it before its last rollout.
        if self.model.num_timesteps >= self._total:
            self._on_rollout_start()

    def _on_step(self) -> bool:
        return True


class Progress(BaseCallback):
    """Tells of agent steps as they are taken."""

    def __init__(self, on_agent_steps: Callable[[int], object]) -> None:
        super().__init__()
        self._on_agent_steps = on_agent_steps

    def _on_step(self) -> bool:
        self._on_agent_steps(self.training_env.num_envs)
        return True


class EntropySchedule(BaseCallback):
    """Lets the entropy coefficient fall in a straight line, as the learning rate does.

    SB3 takes no schedule for it.
    """

    def __init__(self, start: float, end: float) -> None:
        super().__init__()
        self._schedule = LinearSchedule(start, end, end_fraction=1.0)

    def _on_rollout_end(self) -> None:
        done = self.model.num_timesteps / self.model._total_timesteps
        self.model.ent_coef = self._schedule(1 - done)  # pyright: ignore[reportAttributeAccessIssue]

    def _on_step(self) -> bool:
        return True


class CriticWarmup(BaseCallback):
    """Teaches only the critic at first.

    Where it knows nothing yet, its noise would undo what the actor knows.

    Args:
        agent_steps: How long.
    """

    def __init__(self, agent_steps: int) -> None:
        super().__init__()
        self._agent_steps = agent_steps

    def _on_rollout_end(self) -> None:
        policy: Any = self.model.policy
        is_over = self.model.num_timesteps > self._agent_steps
        for part in (policy.pi_features_extractor, policy.action_net):
            part.requires_grad_(is_over)

    def _on_step(self) -> bool:
        return True


class UpdateAverage(Periodic):
    """Takes each update into the moving average of the policy."""

    def __init__(self, average: MovingAverage, freq: int, total: int) -> None:
        super().__init__(freq, total)
        self._average = average

    def on_due(self) -> None:
        self._average.update()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"average": self._average.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._average.load_state_dict(state["average"])


class LearningCurve(Periodic):
    """Keeps a row of what happened since the last one, in every environment.

    Attributes:
        rows: Counters are totals so far: ``agent_steps``, ``emulator_frames``.
            ``episodes`` ended since the last row, restarts and those that began
            further on, too; ``episode_return``, ``progress`` and ``success_rate`` are
            their means. Then what SB3 says of the last update, and the parts of the
            `Score` where the policy was evaluated, each after ``eval_``.
    """

    def __init__(self, freq: int, total: int) -> None:
        super().__init__(freq, total)
        self.rows: list[dict[str, Any]] = []
        self._ended: list[dict[str, Any]] = []
        self._frames_before = 0

    def _on_step(self) -> bool:
        ends = zip(self.locals["dones"], self.locals["infos"], strict=True)
        self._ended += [info for is_done, info in ends if is_done]
        return True

    def on_due(self) -> None:
        columns = ["reward", "progress", "is_success"]
        ended = pd.DataFrame(self._ended, columns=columns)
        self._ended = []
        said = self.logger.name_to_value
        self.rows.append(
            {
                "agent_steps": self.model.num_timesteps,
                "emulator_frames": self._frames_before + _frames(self.training_env),
                "episodes": len(ended),
                "episode_return": ended["reward"].mean(),
                "progress": ended["progress"].mean(),
                "success_rate": ended["is_success"].mean(),
            }
            | {
                name.removeprefix("train/"): float(value)
                for name, value in said.items()
                if name.startswith("train/") and name != "train/n_updates"
            }
            | {f"eval_{part.name}": None for part in fields(Score)}
        )
        self.logger.dump(self.model.num_timesteps)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.rows = state["rows"]

    def count_on(self) -> None:
        """Count frames on from the last row: the environments are new, and replayed."""
        frames = self.rows[-1]["emulator_frames"]
        self._frames_before = frames - _frames(self.training_env)


class Evaluate(Periodic):
    """Evaluates the averaged policy on episodes of its own and keeps the best weights.

    What has learned longer plays better, and evaluations are too short to tell good
    policies apart: the last policy is kept that is not significantly worse than the
    best.

    Attributes:
        scores: All so far.
        best_weights: Those of the policy to keep.
        best_row: Its row in the curve.
    """

    def __init__(
        self,
        average: MovingAverage,
        score: Callable[[Policy], Score],
        curve: LearningCurve,
        freq: int,
        total: int,
    ) -> None:
        super().__init__(freq, total)
        self._average = average
        self._score = score
        self._curve = curve
        self.scores: list[Score] = []
        self.best_weights: dict[str, torch.Tensor] = {}
        self.best_row = 0

    @property
    def best(self) -> Score:
        """The best score so far."""
        return max(self.scores)

    def on_due(self) -> None:
        score = self._score(self._average.policy)
        is_best = not self.scores or score > self.best
        self.scores.append(score)
        row = {f"eval_{name}": value for name, value in asdict(score).items()}
        self._curve.rows[-1] |= row
        if is_best or 0 < self.best.interval.low <= score.success_rate:
            self.best_row = len(self._curve.rows) - 1
            weights = weights_of(self._average.policy)
            self.best_weights = {name: w.clone() for name, w in weights.items()}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "scores": [asdict(score) for score in self.scores],
            "best_weights": self.best_weights,
            "best_row": self.best_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.scores = [Score(**score) for score in state["scores"]]
        self.best_weights = state["best_weights"]
        self.best_row = state["best_row"]


class StopAtGoal(BaseCallback):
    """Ends a training once the success rate is significantly at least a goal."""

    ended_by = "goal"

    def __init__(self, evaluate: Evaluate, goal: float) -> None:
        super().__init__()
        self._evaluate = evaluate
        self._goal = goal

    @property
    def is_reached(self) -> bool:
        """Whether the last evaluation ends the training."""
        scores = self._evaluate.scores
        return bool(scores) and scores[-1].interval.low >= self._goal

    def _on_step(self) -> bool:
        return not self.is_reached


class StopAtCollapse(BaseCallback):
    """Ends a training after bad evaluations in a row.

    Bad is one whose success rate is significantly below a share of the best one's.
    """

    ended_by = "collapse"

    def __init__(self, evaluate: Evaluate, share: float, patience: int) -> None:
        super().__init__()
        self._evaluate = evaluate
        self._share = share
        self._patience = patience

    @property
    def is_reached(self) -> bool:
        """Whether the last evaluations end the training."""
        scores = self._evaluate.scores
        bad = [
            score.interval.high < self._share * max(scores[: index + 1]).success_rate
            for index, score in enumerate(scores)
        ]
        return len(bad) >= self._patience and all(bad[-self._patience :])

    def _on_step(self) -> bool:
        return not self.is_reached


class KeepCheckpoint(Periodic):
    """Saves all that the rest of a training depends on, for any algorithm of SB3.

    Args:
        checkpoint: Where.
        parts: Callbacks with a state, by the names that they are saved under.
    """

    def __init__(
        self, checkpoint: Checkpoint, parts: dict[str, Periodic], freq: int, total: int
    ) -> None:
        super().__init__(freq, total)
        self._checkpoint = checkpoint
        self._parts = parts

    def on_due(self) -> None:
        self._checkpoint.save(
            "state",
            {
                "model": _model_state(self.model),
                "episodes": self.training_env.env_method("log"),
                "callbacks": {n: part.state_dict() for n, part in self._parts.items()},
                "itself": self.state_dict(),
            },
        )

    def restore(self, model: BaseAlgorithm) -> None:
        """Make a model, its environments and the callbacks what they were."""
        stored = self._checkpoint.load("state")
        envs = model.get_env()
        assert envs is not None
        _load_model_state(model, stored["model"])
        for name, state in stored["callbacks"].items():
            self._parts[name].load_state_dict(state)
        self.load_state_dict(stored["itself"])
        for index, log in enumerate(stored["episodes"]):
            [steps] = envs.env_method("replay", log, indices=[index])
            for _ in steps:
                pass


# SB3's algorithms keep these where a rollout continues.
_LAST = ("_last_obs", "_last_episode_starts")


def _model_state(model: BaseAlgorithm) -> dict[str, Any]:
    """Return all that an algorithm depends on between two rollouts."""
    numpy_rng: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    numpy_rng["state"]["key"] = numpy_rng["state"]["key"].tolist()
    replay = getattr(model, "replay_buffer", None)
    is_on_cpu = model.device.type == "cpu"
    return {
        "parameters": model.get_parameters(),
        "numbers": _numbers(model),
        "last": {name: getattr(model, name) for name in _LAST},
        "replay": None if replay is None else _arrays(replay) | _numbers(replay),
        "torch_rng": torch.get_rng_state(),
        "gpu_rngs": [] if is_on_cpu else torch.cuda.get_rng_state_all(),
        "numpy_rng": numpy_rng,
        "actions_rng": model.action_space.np_random.bit_generator.state,
    }


def _load_model_state(model: BaseAlgorithm, state: dict[str, Any]) -> None:
    model.set_parameters(state["parameters"], device=model.device)
    for optimizer in _optimizers(model):
        like_parameters(optimizer)
    vars(model).update(state["numbers"] | state["last"])
    if state["replay"] is not None:
        for name, value in state["replay"].items():
            setattr(model.replay_buffer, name, value)  # pyright: ignore[reportAttributeAccessIssue]
    torch.set_rng_state(state["torch_rng"])
    torch.cuda.set_rng_state_all(state["gpu_rngs"])
    numpy_rng = state["numpy_rng"]
    key = np.array(numpy_rng["state"]["key"], np.uint32)
    numpy_rng["state"]["key"] = key
    np.random.set_state(numpy_rng)  # noqa: NPY002
    model.action_space.np_random.bit_generator.state = state["actions_rng"]


def _numbers(thing: object) -> dict[str, Any]:
    """Return the counters and coefficients of an object."""
    return {k: v for k, v in vars(thing).items() if isinstance(v, int | float)}


def _arrays(thing: object) -> dict[str, Any]:
    """Return the arrays of an object, and its dictionaries of them."""
    return {
        name: value
        for name, value in vars(thing).items()
        if isinstance(value, np.ndarray)
        or (
            isinstance(value, dict)
            and value
            and all(isinstance(one, np.ndarray) for one in value.values())
        )
    }


def _optimizers(model: BaseAlgorithm) -> Sequence[torch.optim.Optimizer]:
    names, _ = model._get_torch_save_params()
    found = []
    for name in names:
        one: Any = model
        for part in name.split("."):
            one = getattr(one, part)
        if isinstance(one, torch.optim.Optimizer):
            found.append(one)
    return found


def _frames(envs: VecEnv) -> int:
    """Emulated in all environments since they were made."""
    return sum(envs.get_attr("emulated_frames"))


def best_policy(evaluate: Evaluate, average: MovingAverage) -> Policy:
    """Return the policy to keep."""
    set_weights(average.policy, evaluate.best_weights)
    return average.policy


def stops(evaluate: Evaluate, recipe: RecipeParams) -> list[Any]:
    """Return what may end a training before its budget is spent."""
    return [
        StopAtGoal(evaluate, recipe.goal_success_rate),
        StopAtCollapse(evaluate, recipe.collapse_share, recipe.patience),
    ]
