"""Proximal policy optimisation (SB3's) from a given policy or from scratch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import explained_variance, update_learning_rate
from stable_baselines3.common.vec_env import VecEnv

from warpzone.agents.checkpoints import (
    Checkpoint,
    Part,
    optimizer_tensors,
    restore_optimizer,
    with_prefix,
    without_prefix,
)
from warpzone.agents.critic import Critic
from warpzone.agents.policy import (
    Policy,
    fast_on_cpu,
    log_probs_of,
    set_weights,
    to_tensor,
    weights_of,
    without_values,
)
from warpzone.game.env import EpisodeLog
from warpzone.params import TrainRLParams
from warpzone.statistics import wilson

End = Literal["budget", "goal", "collapse"]
"""Why a training ended: all agent steps taken, good enough, or got ever worse."""


class Score(NamedTuple):
    """How well a policy plays. The higher clear rate wins, then the longer way."""

    clear_rate: float
    x_pos_max: float
    """Mean over the episodes, in pixels."""


@dataclass(frozen=True)
class Training:
    """What came of it."""

    curve: pd.DataFrame
    """One row an update; row 0 is the start. Counters are totals so far:
    ``agent_steps``, ``emulator_frames``. ``episodes`` ended in the update's rollout, in
    any environment; ``episode_return``, ``x_pos_max`` and ``clear_rate`` are their
    means. Then SB3's figures of the update, ``entropy`` in nats, and
    ``selection_clear_rate`` and ``selection_x_pos_max`` where they were measured."""
    policy: Policy
    """As it was at the end."""
    best_weights: dict[str, torch.Tensor]
    """Those of the policy that scored best, the start included."""
    best_update: int
    """Its row in the curve."""
    ended_by: End


def train(
    envs: VecEnv,
    start: Policy | None,
    params: TrainRLParams,
    seed: int,
    score: Callable[[Policy], Score],
    device: torch.device,
    checkpoint: Checkpoint | None = None,
    on_agent_steps: Callable[[int], object] = lambda _: None,
) -> Training:
    """Train a policy by PPO, Schulman et al. 2017, https://arxiv.org/abs/1707.06347.

    Values come from a `Critic`. The first ``params.critic_warmup`` updates from a given
    policy teach only that: it knows nothing yet, and its noise would undo what the
    actor knows. From then on the actor is held by the policy that it began as, by the
    divergence from it (kickstarting, Schmitt et al. 2018,
    https://arxiv.org/abs/1803.03835): most of what that does is right, and what the
    rollout says of most agent steps is noise.

    Args:
        envs: ``params.envs`` environments, each a `warpzone.game.env.MarioEnv`.
        start: The policy to start from; a new one if not given.
        params: How to train.
        seed: Seeds torch, NumPy's global generator, which SB3 shuffles with, and the
            environments: ``seed``, ``seed + 1``, ...
        score: Plays a policy. It must not use the generators above.
        device: Where the policy is trained and the rollouts are kept.
        checkpoint: Where each update is kept. What it holds goes on.
        on_agent_steps: Called with the number of agent steps just taken.
    """
    model = _PPO(
        "CnnPolicy",
        envs,
        learning_rate=params.learning_rate,
        n_steps=params.rollout_steps,
        batch_size=params.batch_size,
        n_epochs=params.epochs,
        gamma=params.gamma,
        gae_lambda=params.gae_lambda,
        max_grad_norm=params.max_grad_norm,
        seed=seed,
        device=device,
    )
    model.params = params
    model.critic = Critic(params.critic_learning_rate, device)
    if start is not None:
        set_weights(model.policy, weights_of(start))
        model.anchor = start.to(device)
    without_values(model.policy)
    fast_on_cpu(model.policy)
    # SB3's own logger would leave an empty folder in the temporary one.
    model.set_logger(Logger(folder=None, output_formats=[]))
    recorder = _Recorder(params, score, checkpoint, on_agent_steps)
    if checkpoint is not None and checkpoint.has("state"):
        recorder.restore(model, envs, checkpoint.load("state"))
        on_agent_steps(model.num_timesteps)
    remaining = params.agent_steps - model.num_timesteps
    model.learn(remaining, recorder, reset_num_timesteps=False)
    return Training(
        curve=pd.DataFrame(recorder.rows),
        policy=model.policy,
        best_weights=recorder.best_weights,
        best_update=recorder.best_update,
        ended_by=recorder.ended_by or "budget",
    )


class _Rows(NamedTuple):
    """Agent steps of a rollout."""

    observations: torch.Tensor
    """Shape ``(N, frame_stack, height, width)``, uint8."""
    actions: torch.Tensor
    log_probs: torch.Tensor
    """Of the actions, when they were taken."""
    advantages: torch.Tensor
    """Mean 0, standard deviation 1 over the rollout."""
    anchor: torch.Tensor
    """What the policy that training began with would do: log-probabilities of all
    actions, shape ``(N, actions)``. Zero columns where there is none."""


class _Loss(NamedTuple):
    """Of the actor, over a batch."""

    total: torch.Tensor
    entropy: float
    approx_kl: float
    """From the policy that made the rollout, in nats."""
    clip_fraction: float


class _PPO(stable_baselines3.PPO):
    """SB3's PPO with a critic that reads RAM and an actor that its start holds."""

    params: TrainRLParams
    critic: Critic
    anchor: Policy | None = None
    """What the actor must not stray from without a reason."""
    ram: list[np.ndarray]
    """At the rollout's start and after each of its steps, ``(envs, 2048)``, uint8."""

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
        loss = self.critic.fit(ram[:-1], buffer.returns, self.params.critic_epochs)
        self.logger.record("train/value_loss", loss)
        self.logger.record("train/explained_variance", explained)
        if self.anchor is None or self.updates > self.params.critic_warmup:
            self._train_actor(self._rows())

    def _rows(self) -> _Rows:
        """Return the rollout, on the device."""
        buffer = self.rollout_buffer
        advantages = buffer.advantages
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        pictures = to_tensor(buffer.swap_and_flatten(buffer.observations), self.device)
        actions, log_probs, advantages = (
            torch.from_numpy(buffer.swap_and_flatten(array)).flatten().to(self.device)
            for array in (buffer.actions, buffer.log_probs, advantages)
        )
        anchor = torch.zeros(len(pictures), 0, device=self.device)
        if self.anchor is not None:
            with torch.no_grad():
                parts = pictures.split(self.batch_size)
                anchor = torch.cat([log_probs_of(self.anchor, part) for part in parts])
        return _Rows(pictures, actions.long(), log_probs, advantages, anchor)

    def _train_actor(self, rows: _Rows) -> None:
        """Improve the actor, batch by batch."""
        done = (self.updates - 1) * self.n_steps * self.n_envs
        remaining = 1 - done / self.params.agent_steps
        rate = self.params.learning_rate * remaining
        update_learning_rate(self.policy.optimizer, rate)
        parameters = [*self.policy.parameters()]
        losses: list[_Loss] = []
        for _ in range(self.n_epochs):
            # SB3's own source of randomness.
            order = torch.from_numpy(np.random.permutation(len(rows.actions)))  # noqa: NPY002
            for batch in order.to(self.device).split(self.batch_size):
                part = _Rows(*(column[batch] for column in rows))
                losses.append(_actor_loss(self.policy, part, self.params))
                if losses[-1].approx_kl > 1.5 * self.params.target_kl:
                    break
                self.policy.optimizer.zero_grad()
                losses[-1].total.backward()
                torch.nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
                self.policy.optimizer.step()
            else:
                continue
            break
        for name in ("entropy", "approx_kl", "clip_fraction"):
            mean = float(np.mean([getattr(loss, name) for loss in losses]))
            self.logger.record(f"train/{name}", mean)


def _actor_loss(policy: Policy, rows: _Rows, params: TrainRLParams) -> _Loss:
    """Return PPO's clipped loss, with the pull of entropy and of the anchor."""
    all_log_probs = log_probs_of(policy, rows.observations)
    entropy = -(all_log_probs.exp() * all_log_probs).sum(dim=1).mean()
    log_probs = all_log_probs.gather(1, rows.actions[:, None]).squeeze(1)
    log_ratio = log_probs - rows.log_probs
    ratio = log_ratio.exp()
    low, high = 1 - params.clip_range, 1 + params.clip_range
    gain = torch.min(
        ratio * rows.advantages, ratio.clamp(low, high) * rows.advantages
    ).mean()
    total = -gain - params.entropy_coefficient * entropy
    if rows.anchor.shape[1]:
        straying = rows.anchor.exp() * (rows.anchor - all_log_probs)
        total = total + params.anchor_coefficient * straying.sum(dim=1).mean()
    with torch.no_grad():
        # http://joschu.net/blog/kl-approx.html
        approx_kl = (ratio - 1 - log_ratio).mean().item()
        clip_fraction = ((ratio - 1).abs() > params.clip_range).float().mean().item()
    return _Loss(total, entropy.item(), approx_kl, clip_fraction)


class _Recorder(BaseCallback):
    """Keeps the learning curve and the best policy."""

    model: _PPO  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        params: TrainRLParams,
        score: Callable[[Policy], Score],
        checkpoint: Checkpoint | None,
        on_agent_steps: Callable[[int], object],
    ) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []
        self.best_weights: dict[str, torch.Tensor] = {}
        self.best_update = 0
        self.ended_by: End | None = None
        self._best_score = Score(-1.0, -1.0)
        self._bad_looks = 0
        self._params = params
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
        self.best_weights = without_prefix("best", tensors)
        self.rows = state["rows"]
        self.best_update = state["best_update"]
        self.ended_by = state["ended_by"]
        self._best_score = Score(*state["best_score"])
        self._bad_looks = state["bad_looks"]
        model.num_timesteps = self.rows[-1]["agent_steps"]
        logs = [EpisodeLog(noise, bytes(d)) for noise, d in state["episodes"]]
        pictures = [
            envs.env_method("replay", log, indices=[index])
            for index, log in enumerate(logs)
        ]
        model._last_obs = np.concatenate(pictures)
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
            "best_score": self._best_score,
            "bad_looks": self._bad_looks,
            "episodes": [[log.noise, list(log.decisions)] for log in logs],
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
            "selection_clear_rate": None,
            "selection_x_pos_max": None,
        }
        is_last = self.num_timesteps >= self._params.agent_steps
        if update % self._params.selection_interval == 0 or is_last:
            score = self._score(self.model.policy)
            row["selection_clear_rate"], row["selection_x_pos_max"] = score
            if not is_last:
                self.ended_by = self._judge(score)
            if score > self._best_score:
                self._best_score = score
                self.best_update = update
                weights = weights_of(self.model.policy)
                self.best_weights = {name: w.clone() for name, w in weights.items()}
        self.rows.append(row)

    def _judge(self, score: Score) -> End | None:
        """Say whether training should end before its budget is spent."""
        params = self._params
        episodes = params.selection_episodes
        clears = round(score.clear_rate * episodes)
        if wilson(clears, episodes).low >= params.goal_clear_rate:
            return "goal"
        is_bad = score.clear_rate < params.collapse_share * self._best_score.clear_rate
        self._bad_looks = self._bad_looks + 1 if is_bad else 0
        return "collapse" if self._bad_looks >= params.collapse_looks else None


def _frames(envs: VecEnv) -> int:
    """Emulated in all environments since they were made."""
    return sum(play.emulator_frames for play in envs.get_attr("play"))


def _ram(envs: VecEnv) -> np.ndarray:
    """Return a copy of every console's memory, shape ``(N, 2048)``, uint8."""
    return np.stack([play.ram for play in envs.get_attr("play")])
