"""Train an agent by an algorithm of Stable-Baselines3, as a recipe says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import batched
from typing import Any

import pandas as pd
import torch
from stable_baselines3.common.callbacks import CallbackList
from stable_baselines3.common.logger import KVWriter
from stable_baselines3.common.vec_env import VecEnv

from warpzone.agents.policy import MovingAverage, Policy, PolicyAgent, set_weights
from warpzone.core.params import RecipeParams
from warpzone.core.progress import progress_bar
from warpzone.core.seeds import Purpose, episode_seed
from warpzone.envs.replayable import ReplayableEnv
from warpzone.episodes.play import play_episodes
from warpzone.episodes.table import Score
from warpzone.training.algorithms import check_kind, make_model
from warpzone.training.bc import Transitions, join
from warpzone.training.callbacks import (
    CountSecondTries,
    CriticWarmup,
    EntropySchedule,
    Evaluate,
    FollowCurriculum,
    KeepCheckpoint,
    KeepMilestones,
    LearningCurve,
    Progress,
    StopEarly,
    UpdateAverage,
)
from warpzone.training.checkpoint import Checkpoint
from warpzone.training.curricula import Curriculum
from warpzone.training.health import Health
from warpzone.training.learned_rewards import GAIL, RND
from warpzone.training.memory import ReplayMemory
from warpzone.training.value_based import ValueBased

# Episodes between two questions whether the goal is out of reach.
_BATCH = 64


@dataclass(frozen=True)
class Training:
    """Result of `train`."""

    curve: pd.DataFrame
    """See `warpzone.training.callbacks.LearningCurve`; row 0 is the start."""
    policy: Policy
    """The averaged policy that `Evaluate` kept, the start included."""
    best_row: int
    """Its row in the curve."""
    ended_by: str
    """``budget``, ``goal``, ``collapse`` or ``health``."""
    milestones: dict[str, dict[str, torch.Tensor]]
    """See `warpzone.training.callbacks.KeepMilestones`."""
    second_tries: pd.DataFrame
    """See `warpzone.training.callbacks.CountSecondTries`."""
    health: list[str]
    """What `warpzone.training.health.Health` found, a line each."""

    def summary(self) -> dict[str, Any]:
        """Return what it took and how well the policy played, as metrics."""
        start, best, final = (self.curve.iloc[row] for row in (0, self.best_row, -1))
        spent = ("episodes", "agent_steps", "emulator_frames")
        evaluations = self.curve[[f"eval_{name}" for name in spent]].sum()
        return {
            "agent_steps": int(final["agent_steps"]),
            "emulator_frames": int(final["emulator_frames"]),
            "best_agent_steps": int(best["agent_steps"]),
            "ended_by": self.ended_by,
            "health": self.health,
            **{str(name): int(total) for name, total in evaluations.items()},
            **{
                f"eval_{part}_{name}": round(row[f"eval_{part}"], digits)
                for part, digits in (("success_rate", 4), ("progress", 1))
                for name, row in (("start", start), ("best", best), ("final", final))
            },
        }


def train(
    envs: VecEnv,
    start: PolicyAgent,
    world: str,
    recipe: RecipeParams,
    seed: int,
    score: Callable[[Policy], Score],
    device: torch.device,
    checkpoint: Checkpoint | None = None,
    on_agent_steps: Callable[[int], object] = lambda _: None,
    writers: Sequence[KVWriter] = (),
    shown: Sequence[Transitions] = (),
    remembered: ReplayMemory | None = None,
    warn: Callable[[str], object] = lambda _: None,
    curriculum: Curriculum | None = None,
) -> Training:
    """Train an agent; what is scored and returned is a moving average of its policy.

    Args:
        envs: ``recipe.n_envs`` environments, each a
            `warpzone.envs.curriculum.TrainingEnv`.
        start: The agent to start from.
        world: Whose environments they are.
        recipe: How to train.
        seed: Seeds torch, NumPy's global generator, which SB3 shuffles with, and the
            environments: ``seed``, ``seed + 1``, ...
        score: Plays a policy. It must not use the generators above.
        device: Where the policy is trained and the rollouts are kept.
        checkpoint: Where the training is saved after each row of the curve. What it
            held at first is resumed.
        on_agent_steps: Called with the number of agent steps just taken.
        writers: Take what SB3's logger says of each update.
        shown: Demonstrated episodes as the actor sees them, for GAIL.
        remembered: The same, for a value-based algorithm with a section of them.
        warn: Called with each trouble that is found, in one line.
        curriculum: What the environments' episodes are drawn from; if None, they know.

    Raises:
        InputError: If the algorithm trains no policy of the start's kind.
    """
    model = make_model(recipe, envs, world, start.key, seed, device, list(writers))
    policy: Any = model.policy
    check_kind(recipe, start.policy)
    policy.player.load_state_dict(start.policy.state_dict())
    if isinstance(model, ValueBased):
        policy.target.load_state_dict(start.policy.state_dict())
        model.demonstrations, model.shown = recipe.demonstrations, remembered
        if recipe.demonstrations and (checkpoint is None or checkpoint.state is None):
            updates = recipe.demonstrations.updates
            with progress_bar(updates, "learning from demonstrations", "update") as bar:
                model.pretrain(bar.update)
    average = MovingAverage(policy.player, recipe.ema_decay)
    update_average = UpdateAverage(recipe.log_freq, average)
    curve = LearningCurve(recipe.log_freq)
    milestones = KeepMilestones(recipe.log_freq, average)
    evaluate = Evaluate(recipe.eval_freq, average, score, curve)
    second_tries, stop = CountSecondTries(), StopEarly(evaluate, recipe)
    health = Health(recipe.log_freq, evaluate, recipe, warn)
    callbacks = [Progress(on_agent_steps), update_average, milestones, curve]
    callbacks += [evaluate, second_tries, stop, health]
    of: tuple[Any, str, str, int] = (model, world, start.key, seed)
    if recipe.gail is not None:
        callbacks.append(GAIL(*of, recipe.gail, join(shown), len(shown)))
    if recipe.rnd is not None:
        callbacks.append(RND(*of, recipe.rnd))
    if curriculum is not None and curriculum.progressions:
        callbacks.append(FollowCurriculum(recipe.log_freq, curriculum, curve))
    if recipe.critic_warmup:
        callbacks.append(CriticWarmup(recipe.critic_warmup))
    if recipe.final_ent_coef is not None:
        entropy = recipe.algorithm_kwargs["ent_coef"]
        callbacks.append(EntropySchedule(entropy, recipe.final_ent_coef))
    if checkpoint is not None:
        keep = KeepCheckpoint(recipe.log_freq, checkpoint, tuple(callbacks))
        callbacks.append(keep)
        if checkpoint.state is not None:
            keep.restore(model)
    model.learn(
        recipe.total_timesteps - model.num_timesteps,
        CallbackList(callbacks),
        log_interval=None,  # pyright: ignore[reportArgumentType]
        reset_num_timesteps=False,
    )
    set_weights(average.policy, evaluate.best_weights)
    return Training(
        curve=pd.DataFrame(curve.rows),
        policy=average.policy,
        best_row=evaluate.best_row,
        ended_by=stop.reason or health.reason or "budget",
        milestones=milestones.weights,
        second_tries=second_tries.table,
        health=list(health.found.values()),
    )


def make_score(
    agent: PolicyAgent,
    make_env: Callable[[str], ReplayableEnv],
    levels: Sequence[str],
    recipe: RecipeParams,
    seed: int,
) -> Callable[[Policy], Score]:
    """Return what scores policies on episodes that nothing else plays.

    It plays no more of them once the goal is out of reach: the upper end of the success
    rate's 95 % interval is below it.

    ``agent`` is how policies play.
    """
    count = recipe.n_eval_episodes
    seeds = [episode_seed(Purpose.SELECTION, seed, index) for index in range(count)]

    def score(policy: Policy) -> Score:
        player, table = agent.playing(policy), pd.DataFrame()
        for batch in batched(seeds, _BATCH, strict=False):
            played, _ = play_episodes(player, make_env, levels, batch, recipe.n_envs)
            table = pd.concat([table, played])
            if Score.of(table).interval.high < recipe.goal_success_rate:
                break
        return Score.of(table)

    return score
