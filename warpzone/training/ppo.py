"""Proximal policy optimisation: SB3's, with a critic that reads memory."""

from collections.abc import Callable, Generator
from dataclasses import asdict, astuple, dataclass, field, fields
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import LinearSchedule, explained_variance
from stable_baselines3.common.vec_env import VecEnv
from torch.nn.utils import clip_grad_norm_

from warpzone.agents.policy import (
    POLICY_KWARGS,
    Policy,
    fast_on_cpu,
    log_probs_of,
    set_weights,
    to_tensor,
    weights_of,
)
from warpzone.core.params import PPOParams
from warpzone.envs.mario.env import EpisodeLog
from warpzone.episodes.statistics import Interval, wilson
from warpzone.training.checkpoint import (
    Checkpoint,
    Part,
    optimizer_tensors,
    restore_optimizer,
    with_prefix,
    without_prefix,
)
from warpzone.training.critic import Critic
from warpzone.training.ema import Average

End = Literal["budget", "goal", "collapse"]
"""Why a training ended: all agent steps taken, good enough, or got ever worse."""


@dataclass(frozen=True, order=True)
class Score:
    """How well a policy plays. The higher clear rate wins, then the longer way."""

    clear_rate: float
    x_pos_max: float
    """Mean over the episodes, in pixels."""
    episodes: int = field(compare=False)
    """That were played to know, in so many ``agent_steps`` and ``emulator_frames``."""
    agent_steps: int = field(default=0, compare=False)
    emulator_frames: int = field(default=0, compare=False)

    @property
    def interval(self) -> Interval:
        """Where the clear rate is, at 95 %."""
        return wilson(round(self.clear_rate * self.episodes), self.episodes)


@dataclass(frozen=True)
class Training:
    """What came of it."""

    curve: pd.DataFrame
    """One row an update; row 0 is the start. Counters are totals so far:
    ``agent_steps``, ``emulator_frames``. ``episodes`` ended in the update's rollout, in
    any environment, those of `warpzone.envs.curriculum.PracticeEnv` that did not begin
    at the level's start too; ``episode_return``, ``x_pos_max`` and ``clear_rate`` are
    their means. Then the update's figures, means over its batches, ``entropy`` and
    divergences in nats, and, where it was looked at, the parts of the `Score`, each
    after ``selection_``."""
    policy: Policy
    """The averaged one, as it was at the end."""
    best_weights: dict[str, torch.Tensor]
    """Those of the averaged policy to keep: the last one that was looked at and was not
    surely worse than the best one, the start included."""
    best_update: int
    """Its row in the curve."""
    ended_by: End

    def summary(self) -> dict[str, Any]:
        """Return what it took and how well the policy played, as metrics."""
        at_start, best, last = (
            self.curve.iloc[row] for row in (0, self.best_update, -1)
        )
        looks = {"start": at_start, "best": best, "final": last}
        spent = ("episodes", "agent_steps", "emulator_frames")
        looking = self.curve[[f"selection_{name}" for name in spent]].sum()
        return {
            "agent_steps": int(last["agent_steps"]),
            "emulator_frames": int(last["emulator_frames"]),
            "updates": int(last["update"]),
            "best_update": self.best_update,
            "ended_by": self.ended_by,
            **{str(name): int(total) for name, total in looking.items()},
            **{
                f"selection_{figure}_{name}": round(look[f"selection_{figure}"], digits)
                for figure, digits in (("clear_rate", 4), ("x_pos_max", 1))
                for name, look in looks.items()
            },
        }


def train(
    envs: VecEnv,
    start: Policy,
    params: PPOParams,
    seed: int,
    score: Callable[[Policy], Score],
    device: torch.device,
    critic: Policy | None = None,
    checkpoint: Checkpoint | None = None,
    on_agent_steps: Callable[[int], object] = lambda _: None,
) -> Training:
    """Train a policy by PPO, Schulman et al. 2017, https://arxiv.org/abs/1707.06347.

    Values come from the `Critic` of a policy that sees RAM. The first
    ``params.critic_warmup`` updates teach only that: where it knows nothing yet, its
    noise would undo what the actor knows.

    What is scored and returned is a moving average of the policy over the updates, as
    in Hilton et al. 2022, https://arxiv.org/abs/2110.00641.

    Args:
        envs: ``params.envs`` environments, each a `MarioEnv` whose observations
            are what the policy sees.
        start: The policy to start from.
        params: How to train.
        seed: Seeds torch, NumPy's global generator, which SB3 shuffles with, and the
            environments: ``seed``, ``seed + 1``, ...
        score: Plays a policy. It must not use the generators above.
        device: Where the policy is trained and the rollouts are kept.
        critic: A policy that sees RAM, on the device. Its critic goes on learning, its
            actor is not used. Without one, ``start`` sees RAM and has a critic.
        checkpoint: Where each update is kept. What it holds goes on.
        on_agent_steps: Called with the number of agent steps just taken.
    """
    model = _PPO(
        ActorCriticPolicy,
        envs,
        learning_rate=LinearSchedule(
            params.learning_rate, params.final_learning_rate, end_fraction=1.0
        ),
        n_steps=params.rollout_steps,
        batch_size=params.batch_size,
        n_epochs=params.epochs,
        gamma=params.gamma,
        gae_lambda=params.gae_lambda,
        clip_range=params.clip_range,
        max_grad_norm=params.max_grad_norm,
        target_kl=params.target_kl,
        seed=seed,
        device=device,
        policy_kwargs=POLICY_KWARGS["ram" if critic is None else "pictures"],
    )
    model.policy.load_state_dict(start.state_dict())
    fast_on_cpu(model.policy)
    model.entropy_coefficient = LinearSchedule(
        params.entropy_coefficient, params.final_entropy_coefficient, end_fraction=1.0
    )
    model.critic = Critic(critic or model.policy, params.critic_learning_rate)
    model.critic_epochs = params.critic_epochs
    model.critic_warmup = params.critic_warmup
    # SB3's own logger would leave an empty folder in the temporary one.
    model.set_logger(Logger(folder=None, output_formats=[]))
    average = Average(model.policy, params.average_decay)
    recorder = _Recorder(params, average, score, checkpoint, on_agent_steps)
    if checkpoint is not None and checkpoint.has("state"):
        recorder.restore(model, envs, checkpoint.load("state"))
        on_agent_steps(model.num_timesteps)
    remaining = params.agent_steps - model.num_timesteps
    model.learn(remaining, recorder, reset_num_timesteps=False)
    return Training(
        curve=pd.DataFrame(recorder.rows),
        policy=average.policy,
        best_weights=recorder.best_weights,
        best_update=recorder.best_update,
        ended_by=recorder.ended_by or "budget",
    )


class _Rollout(NamedTuple):
    """What an update is made from; a row an agent step."""

    actions: torch.Tensor
    """Shape ``(N, 1)``, int64."""
    log_probs: torch.Tensor
    """Of the actions when they were taken, shape ``(N, 1)``."""
    advantages: torch.Tensor
    """Shape ``(N, 1)``."""

    def take(self, rows: torch.Tensor) -> "_Rollout":
        return _Rollout(*(column[rows] for column in self))


def _loss_terms(
    log_probs: torch.Tensor, batch: _Rollout, clip_range: float
) -> dict[str, torch.Tensor]:
    """Return what the loss is made of, and how far the policy has moved.

    Args:
        log_probs: Of all actions by the policy as it is now, shape ``(N, actions)``.
        batch: The same agent steps.
        clip_range: Of the ratio of probabilities, around 1.
    """
    log_ratio = log_probs.gather(1, batch.actions) - batch.log_probs
    ratio = log_ratio.exp()
    advantages = batch.advantages - batch.advantages.mean()
    advantages = advantages / (batch.advantages.std() + 1e-8)
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    return {
        "policy_loss": -torch.min(advantages * ratio, advantages * clipped).mean(),
        "entropy": -(log_probs.exp() * log_probs).sum(dim=1).mean(),
        # Schulman's estimate, http://joschu.net/blog/kl-approx.html
        "approx_kl": (ratio - 1 - log_ratio).mean(),
        "clip_fraction": ((ratio - 1).abs() > clip_range).float().mean(),
    }


class _PPO(stable_baselines3.PPO):
    """SB3's PPO, whose values come from a critic that reads RAM."""

    critic: Critic
    critic_epochs: int
    critic_warmup: int
    """Updates that teach only the critic."""
    entropy_coefficient: LinearSchedule
    ram: list[np.ndarray]
    """At the rollout's start and after each of its steps, ``(envs, 2048)``, uint8."""

    def _maybe_recommend_cpu(self, mlp_class_name: str = "") -> None:
        """Give no advice about GPUs: SB3 takes every policy of ours for a small one."""

    @property
    def updates(self) -> int:
        """How many rollouts have been collected."""
        return self.num_timesteps // (self.n_steps * self.n_envs)

    def train(self) -> None:
        buffer = self.rollout_buffer
        ram = np.stack(self.ram)
        *values, last_values = self.critic.values(ram)
        buffer.values[:] = values
        # Where an episode ends for want of time or progress it ends for good: what
        # might have followed is no part of its return.
        starts = np.asarray(self._last_episode_starts)
        buffer.compute_returns_and_advantage(torch.from_numpy(last_values), starts)
        explained = explained_variance(buffer.values.ravel(), buffer.returns.ravel())
        loss = self.critic.fit(ram[:-1], buffer.returns, self.critic_epochs)
        if self.updates > self.critic_warmup:
            self._update_policy()
        self.logger.record("train/value_loss", loss)
        self.logger.record("train/explained_variance", explained)

    def _update_policy(self) -> None:
        """Do what SB3's PPO does, but for the value loss."""
        buffer = self.rollout_buffer
        flat = buffer.swap_and_flatten
        observations = to_tensor(flat(buffer.observations), self.device)
        rollout = _Rollout(
            *(
                to_tensor(flat(array), self.device)
                for array in (
                    buffer.actions.astype(np.int64),
                    buffer.log_probs[..., None],
                    buffer.advantages[..., None],
                )
            )
        )
        progress_remaining = self._current_progress_remaining
        self.ent_coef = self.entropy_coefficient(progress_remaining)
        clip_range: float = self.clip_range(progress_remaining)  # pyright: ignore[reportCallIssue]
        optimizer = self.policy.optimizer
        self._update_learning_rate(optimizer)
        seen: list[dict[str, float]] = []
        for batch in self._batches(len(observations)):
            log_probs = log_probs_of(self.policy, observations[batch])
            terms = _loss_terms(log_probs, rollout.take(batch), clip_range)
            seen.append({name: term.item() for name, term in terms.items()})
            if self.target_kl and seen[-1]["approx_kl"] > 1.5 * self.target_kl:
                break
            loss = terms["policy_loss"] - self.ent_coef * terms["entropy"]
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            optimizer.step()
        for name, mean in pd.DataFrame(seen).mean().items():
            self.logger.record(f"train/{name}", float(mean))

    def _batches(self, rows: int) -> Generator[torch.Tensor]:
        """Shuffle the rollout for each epoch and cut it into batches."""
        for _ in range(self.n_epochs):
            # SB3's own source of randomness.
            order = torch.from_numpy(np.random.permutation(rows))  # noqa: NPY002
            yield from order.to(self.device).split(self.batch_size)


class _Recorder(BaseCallback):
    """Keeps the learning curve and the best policy."""

    model: _PPO  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        params: PPOParams,
        average: Average,
        score: Callable[[Policy], Score],
        checkpoint: Checkpoint | None,
        on_agent_steps: Callable[[int], object],
    ) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []
        self.best_weights: dict[str, torch.Tensor] = {}
        self.best_update = 0
        self.ended_by: End | None = None
        self._best_score = Score(-1.0, -1.0, episodes=0)
        self._bad_looks = 0
        self._params = params
        self._average = average
        self._score = score
        self._checkpoint = checkpoint
        self._on_agent_steps = on_agent_steps
        self._ended: list[dict[str, Any]] = []
        self._frames_before = 0

    def restore(self, model: _PPO, envs: VecEnv, stored: Part) -> None:
        """Make a model, its environments and this recorder what they were."""
        tensors, state = stored
        set_weights(model.policy, without_prefix("policy", tensors))
        optimizer = without_prefix("optimizer", tensors)
        restore_optimizer(model.policy.optimizer, optimizer)
        model.critic.restore(without_prefix("critic", tensors))
        self._average.restore(without_prefix("average", tensors))
        self.best_weights = without_prefix("best", tensors)
        self.rows = state["rows"]
        self.best_update = state["best_update"]
        self.ended_by = state["ended_by"]
        self._best_score = Score(*state["best_score"])
        self._bad_looks = state["bad_looks"]
        model.num_timesteps = self.rows[-1]["agent_steps"]
        observations = [
            envs.env_method("replay", EpisodeLog.from_json(log), indices=[index])
            for index, log in enumerate(state["episodes"])
        ]
        model._last_obs = np.concatenate(observations)
        model._last_episode_starts = np.array(state["episode_starts"])
        self._frames_before = self.rows[-1]["emulator_frames"] - _frames(envs)
        torch.set_rng_state(tensors["torch_rng"])
        key = np.array(state["numpy_rng"]["state"]["key"], np.uint32)
        state["numpy_rng"]["state"]["key"] = key
        np.random.set_state(state["numpy_rng"])  # noqa: NPY002

    def _keep(self, checkpoint: Checkpoint) -> None:
        """Save all that the rest of the training depends on."""
        policy = self.model.policy
        tensors = {
            **with_prefix("policy", weights_of(policy)),
            **with_prefix("average", self._average.tensors()),
            **with_prefix("best", self.best_weights),
            **with_prefix("critic", self.model.critic.tensors()),
            **with_prefix("optimizer", optimizer_tensors(policy.optimizer)),
            "torch_rng": torch.get_rng_state(),
        }
        numpy_rng: Any = np.random.get_state(legacy=False)  # noqa: NPY002
        numpy_rng["state"]["key"] = numpy_rng["state"]["key"].tolist()
        logs: list[EpisodeLog] = self.training_env.env_method("log")
        starts = self.model._last_episode_starts
        state = {
            "rows": self.rows,
            "best_update": self.best_update,
            "ended_by": self.ended_by,
            "best_score": astuple(self._best_score),
            "bad_looks": self._bad_looks,
            "episodes": [log.to_json() for log in logs],
            "episode_starts": np.asarray(starts).tolist(),
            "numpy_rng": numpy_rng,
        }
        checkpoint.save("state", tensors, state)

    # SB3 has no event for the end of an update; the next rollout follows at once.
    def _on_rollout_start(self) -> None:
        # Not again where a training that was killed goes on.
        if not self.rows or self.rows[-1]["update"] < self.model.updates:
            self._record()
            if self._checkpoint is not None:
                self._keep(self._checkpoint)
        self.model.ram = [_ram(self.training_env)]

    def _on_training_end(self) -> None:
        if self.ended_by is None:
            self._record()

    def _on_step(self) -> bool:
        if self.ended_by is not None:
            return False
        dones, infos = self.locals["dones"], self.locals["infos"]
        self._ended += [info for done, info in zip(dones, infos, strict=True) if done]
        self.model.ram.append(_ram(self.training_env))
        self._on_agent_steps(len(dones))
        return True

    def _record(self) -> None:
        update = self.model.updates
        self._average.update()
        played = pd.DataFrame(self._ended, columns=["reward", "x_pos_max", "flag_get"])
        self._ended = []

        def figure(name: str) -> float | None:
            value = self.logger.name_to_value.get(f"train/{name}")
            return None if value is None else float(value)

        row = {
            "update": update,
            "agent_steps": self.num_timesteps,
            "emulator_frames": self._frames_before + _frames(self.training_env),
            "episodes": len(played),
            "episode_return": played["reward"].mean(),
            "x_pos_max": played["x_pos_max"].mean(),
            "clear_rate": played["flag_get"].mean(),
            "entropy": figure("entropy"),
            "approx_kl": figure("approx_kl"),
            "clip_fraction": figure("clip_fraction"),
            "value_loss": figure("value_loss"),
            "explained_variance": figure("explained_variance"),
            **{f"selection_{part.name}": None for part in fields(Score)},
        }
        is_last = self.num_timesteps >= self._params.agent_steps
        if update % self._params.selection_interval == 0 or is_last:
            score = self._score(self._average.policy)
            row |= {f"selection_{part}": value for part, value in asdict(score).items()}
            if not is_last:
                self.ended_by = self._judge(score)
            if self._is_choice(score):
                self.best_update = update
                weights = weights_of(self._average.policy)
                self.best_weights = {name: w.clone() for name, w in weights.items()}
        self.rows.append(row)

    def _is_choice(self, score: Score) -> bool:
        """Say whether the policy of this look is the one to keep so far.

        What has learned longer plays better, and the looks are too short to tell good
        policies apart: the last one is kept that is not surely worse than the best.
        """
        best, self._best_score = self._best_score, max(self._best_score, score)
        if score > best:
            return True
        return 0 < best.interval.low <= score.clear_rate

    def _judge(self, score: Score) -> End | None:
        """Say whether training should end before its budget is spent."""
        params = self._params
        if score.interval.low >= params.goal_clear_rate:
            return "goal"
        share_of_best = params.collapse_share * self._best_score.clear_rate
        is_bad = score.interval.high < share_of_best
        self._bad_looks = self._bad_looks + 1 if is_bad else 0
        return "collapse" if self._bad_looks >= params.collapse_looks else None


def _frames(envs: VecEnv) -> int:
    """Emulated in all environments since they were made."""
    return sum(play.emulator_frames for play in envs.get_attr("play"))


def _ram(envs: VecEnv) -> np.ndarray:
    """Return a copy of every console's memory, shape ``(N, 2048)``, uint8."""
    return np.stack([play.ram for play in envs.get_attr("play")])
