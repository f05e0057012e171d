"""Rewards that are learned beside the agent: GAIL and RND, a class each.

Each adds to the rewards of a rollout, before the algorithm learns from it, and then
learns from the rollout itself. They serve every algorithm of SB3 that has rollouts.
"""

from dataclasses import dataclass, field
from math import log
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.utils import obs_as_tensor
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from warpzone.agents.networks import FEATURES, KeyFeatures, Linear
from warpzone.core.params import GAILParams, RNDParams
from warpzone.envs.registry import env_class
from warpzone.training.bc import Transitions
from warpzone.training.callbacks import Callback
from warpzone.training.checkpoint import like_parameters

# Of observations at a time, wherever gradients are not needed.
_CHUNK = 256


@dataclass(eq=False)
class LearnedReward(Callback):
    """Base of rewards that are learned; a subclass has `network` and `optimizer`."""

    algorithm: OnPolicyAlgorithm
    """Whose rollouts are paid. Weights are drawn from torch's generator."""
    world: str
    """Whose environments they are."""
    key: str
    """What the actor sees."""
    seed: int
    """Of the batches."""
    network: nn.Module = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._rng = np.random.default_rng(self.seed)

    def _own(self, network: nn.Module, **kwargs: Any) -> None:
        """Take a network, to be trained by AdamW as `AsymmetricPolicy` is by Adam."""
        device = self.algorithm.device
        self.network = network.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        weights = [one for one in network.parameters() if one.requires_grad]
        self.optimizer = torch.optim.AdamW(weights, **kwargs, fused=True)

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": self._rng.bit_generator.state,
            "kept": super().state_dict(),
        }

    def load_state_dict(self, state: Any) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        like_parameters(self.optimizer)
        self._rng.bit_generator.state = state["rng"]
        super().load_state_dict(state["kept"])

    def _pay(self, rewards: np.ndarray) -> None:
        """Add to the rewards of the rollout, shape ``(n_steps, n_envs)``."""
        buffer: Any = self.algorithm.rollout_buffer
        buffer.rewards += rewards
        # Computed once more, as sb3-contrib does not hand it on.
        last = obs_as_tensor(self.locals["new_obs"], self.algorithm.device)
        with torch.no_grad():
            values = self.algorithm.policy.predict_values(last)  # pyright: ignore[reportArgumentType]
        buffer.compute_returns_and_advantage(values, self.locals["dones"])

    def _minimise(self, loss: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.algorithm.device)


class Discriminator(nn.Module):
    """Tells the agent's steps from demonstrated ones, by what the actor sees and does.

    It returns ``log D - log(1 - D)``, D being the probability that a step was
    demonstrated.
    """

    def __init__(
        self, space: gym.spaces.Dict, key: str, world: str, actions: int
    ) -> None:
        super().__init__()
        self.features = KeyFeatures(space, key, world)
        self.head = Linear(FEATURES, actions)

    def forward(self, seen: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Return logits, shape ``(N,)``, of observations and of actions as one-hot."""
        return (self.head(self.features.network(seen)) * chosen).sum(dim=1)


@dataclass(eq=False)
class GAIL(LearnedReward):
    """A reward for playing as was demonstrated.

    Ho and Ermon 2016, https://arxiv.org/abs/1606.03476. A discriminator learns to tell
    the agent's pairs of observation and action from the demonstrated ones. A step is
    paid ``r = log D - log(1 - D)``, which is ``log(p_E / p_A)``, where ``p_E`` and
    ``p_A`` are how often the demonstrations and the agent are seen to do that. An agent
    that plays like them is paid nothing, on average.

    Episodes end when it depends on the agent, and that is a trap: a reward that is
    always positive, as ``-log(1 - D)``, pays for living, one that is always negative
    for dying, whatever was demonstrated (Kostrikov et al. 2019,
    https://arxiv.org/abs/1809.02925). As there, an episode that has ended therefore
    stays in an absorbing state, which is paid, too. Here that lasts for the effective
    horizon, ``H = 1 / (1 - gamma)`` agent steps, and its D need not be learned: there
    is one such state, so its share of all steps says everything. With ``s = H e / (T +
    H e)``, for ``T`` agent steps in which ``e`` episodes ended, and a discriminator
    that learns from equal numbers of other steps:

    - a step: ``r = log D - log(1 - D) + log((1 - s_E) / (1 - s_A))``;
    - the last step of an episode, beside that: ``gamma / (1 - gamma) * log(s_E /
      s_A)``. That is negative if the agent's episodes end earlier than those that were
      demonstrated, and positive if they end later.

    A truncated episode has not ended. Restarts and starts along demonstrations make
    episodes shorter than they are: a recipe with GAIL better does without.
    """

    KEPT = ("steps", "ends")
    LIMIT = 5.0
    """Of the size of ``log D - log(1 - D)``, which may grow without end."""
    DECAY = 0.9
    """Weight of earlier rollouts among the agent's steps and ends."""

    params: GAILParams
    demonstrations: Transitions
    """All episodes, one after another."""
    demonstrated_ends: int
    """How many they are."""
    steps: float = field(default=0.0, init=False)
    """Of the agent, lately."""
    ends: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        space: Any = self.algorithm.observation_space
        self._actions = int(self.algorithm.action_space.n)  # pyright: ignore[reportAttributeAccessIssue]
        self._own(
            Discriminator(space, self.key, self.world, self._actions),
            lr=self.params.learning_rate,
            weight_decay=self.params.weight_decay,
        )

    def _on_rollout_start(self) -> None:
        self._env_rewards: list[np.ndarray] = []
        self._terminated: list[np.ndarray] = []

    def _on_step(self) -> bool:
        # SB3 adds to them where an episode is truncated.
        self._env_rewards.append(self.locals["rewards"].copy())
        is_cut = [info["TimeLimit.truncated"] for info in self.locals["infos"]]
        self._terminated.append(self.locals["dones"] & ~np.array(is_cut))
        return True

    def _on_rollout_end(self) -> None:
        buffer: Any = self.algorithm.rollout_buffer
        seen, actions = buffer.observations[self.key], buffer.actions[..., 0]
        chosen = np.eye(self._actions, dtype=np.float32)[actions.astype(np.int64)]
        shape = actions.shape
        seen, chosen = (one.reshape(-1, *one.shape[2:]) for one in (seen, chosen))
        loss, accuracy = self._learn(seen, chosen)
        terminated = np.array(self._terminated)
        step, end = self._step_and_end(terminated)
        paid = self._logits(seen, chosen).reshape(shape) + step + end * terminated
        of_env = (self.params.env_weight - 1) * np.array(self._env_rewards)
        self._pay(self.params.weight * paid + of_env)
        self.logger.record("train/gail_reward", float(paid.mean()))
        self.logger.record("train/discriminator_loss", loss)
        self.logger.record("train/discriminator_accuracy", accuracy)

    def _learn(self, seen: np.ndarray, chosen: np.ndarray) -> tuple[float, float]:
        """Train on batches, half of each demonstrated; return the mean loss, accuracy.

        The first is in nats, the second a share.
        """
        half, updates = self.params.batch_size, self.params.updates
        shown = self.demonstrations.observations
        shown_chosen = self.demonstrations.probabilities
        is_shown = self._tensor(np.repeat(np.array([0, 1], np.float32), half))
        losses = right = 0.0
        for _ in range(updates):
            ours = np.sort(self._rng.integers(len(seen), size=half))
            theirs = np.sort(self._rng.integers(len(shown), size=half))
            logits = self.network(
                self._tensor(np.concatenate([seen[ours], shown[theirs]])),
                self._tensor(np.concatenate([chosen[ours], shown_chosen[theirs]])),
            )
            loss = binary_cross_entropy_with_logits(logits, is_shown)
            self._minimise(loss)
            losses += loss.item()
            right += float(((logits > 0) == (is_shown > 0)).sum()) / (2 * half)
        return losses / updates, right / updates

    def _logits(self, seen: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Return ``log D - log(1 - D)``, shape ``(N,)``, limited."""
        with torch.no_grad():
            parts = [
                self.network(self._tensor(part), self._tensor(does))
                for part, does in zip(_split(seen), _split(chosen), strict=True)
            ]
        return torch.cat(parts).clamp(-self.LIMIT, self.LIMIT).cpu().numpy()

    def _step_and_end(self, terminated: np.ndarray) -> tuple[float, float]:
        """Return what is paid for each step and for each end, beside the logit."""
        self.steps = self.DECAY * self.steps + terminated.size
        self.ends = self.DECAY * self.ends + int(terminated.sum())
        gamma = self.algorithm.gamma
        lasting = 1 / (1 - gamma)
        ours = lasting * self.ends / (self.steps + lasting * self.ends)
        theirs = lasting * self.demonstrated_ends
        theirs /= len(self.demonstrations) + theirs
        step = log((1 - theirs) / (1 - ours))
        # Where no episode has ended yet, no end is paid.
        end = log(theirs / ours) if ours > 0 else 0.0
        return step, gamma * lasting * end


@dataclass(eq=False)
class RND(LearnedReward):
    """A reward for what is new: random network distillation.

    Burda et al. 2018, https://arxiv.org/abs/1810.12894. A predictor learns what a
    network with random weights makes of each observation; where it errs, it has not
    been often. An agent step is paid the squared error at the observation after it,
    over a running standard deviation of the sums of these rewards, discounted by the
    algorithm's ``gamma``.

    Both networks are those of the actor and a linear layer. They see the newest frame,
    or what `describe_state` says of a state, less its running mean, over its running
    standard deviation, and limited to 5 of them. There is one critic, so novelty ends
    with the episode; in the paper it has a critic of its own and does not.
    """

    KEPT = ("returns",)
    LIMIT = 5.0
    """Standard deviations."""

    params: RNDParams
    returns: np.ndarray = field(init=False)
    """Discounted sums of the errors so far, shape ``(n_envs,)``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        spaces: Any = self.algorithm.observation_space
        low, high = spaces[self.key].low, spaces[self.key].high
        one = slice(-1, None) if low.ndim == 3 else slice(None)
        space = gym.spaces.Box(low[one], high[one], dtype=spaces[self.key].dtype)
        self._newest = one
        self.returns = np.zeros(self.algorithm.n_envs)
        self._of_returns = RunningMeanStd()
        self._of_seen = RunningMeanStd(shape=self._numbers(space.low[None]).shape[1:])
        target, predictor = (
            nn.Sequential(
                *KeyFeatures(
                    gym.spaces.Dict({self.key: space}), self.key, self.world
                ).network.layers,  # pyright: ignore[reportGeneralTypeIssues, reportArgumentType]
                Linear(FEATURES, FEATURES),
            )
            for _ in range(2)
        )
        target.requires_grad_(False)
        networks = {"target": target, "predictor": predictor}
        rate = self.params.learning_rate
        self._own(nn.ModuleDict(networks), lr=rate, weight_decay=0.0)

    def state_dict(self) -> dict[str, Any]:
        running = (self._of_seen, self._of_returns)
        return super().state_dict() | {"running": [dict(vars(one)) for one in running]}

    def load_state_dict(self, state: Any) -> None:
        super().load_state_dict(state)
        for one, kept in zip(
            (self._of_seen, self._of_returns), state["running"], strict=True
        ):
            vars(one).update(kept)

    def _on_rollout_start(self) -> None:
        self._after: list[np.ndarray] = []

    def _on_step(self) -> bool:
        after = self.locals["new_obs"][self.key][:, self._newest].copy()
        for index, is_done in enumerate(self.locals["dones"]):
            if is_done:
                # What follows in `new_obs` is another episode.
                end = self.locals["infos"][index]["terminal_observation"]
                after[index] = end[self.key][self._newest]
        self._after.append(after)
        return True

    def _on_rollout_end(self) -> None:
        # Step by step, as all at once would fill the memory with their numbers.
        for after in self._after:
            self._of_seen.update(self._numbers(after))
        with torch.no_grad():
            errors = [self._errors(after).cpu().numpy() for after in self._after]
        returns = []
        for error in errors:
            self.returns = self.algorithm.gamma * self.returns + error
            returns.append(self.returns)
        self._of_returns.update(np.concatenate(returns))
        paid = np.array(errors) / np.sqrt(self._of_returns.var + 1e-8)
        self._pay(self.params.weight * paid)
        seen, losses = np.concatenate(self._after), 0.0
        for _ in range(self.params.updates):
            batch = self._rng.integers(len(seen), size=self.params.batch_size)
            loss = self._errors(seen[np.sort(batch)]).mean()
            self._minimise(loss)
            losses += loss.item()
        self.logger.record("train/rnd_reward", float(paid.mean()))
        self.logger.record("train/predictor_loss", losses / self.params.updates)

    def _errors(self, seen: np.ndarray) -> torch.Tensor:
        """Return how far the predictor is off, shape ``(N,)``."""
        numbers = self._numbers(seen) - self._of_seen.mean
        numbers /= np.sqrt(self._of_seen.var + 1e-8)
        limited = numbers.clip(-self.LIMIT, self.LIMIT).astype(np.float32)
        x = self._tensor(limited)
        networks: Any = self.network
        return mse_loss(
            networks["predictor"](x), networks["target"](x), reduction="none"
        ).mean(dim=1)

    def _numbers(self, seen: np.ndarray) -> np.ndarray:
        """Return what the networks read of frames or states, as numbers."""
        if seen.ndim == 4:
            return seen / 255
        return env_class(self.world).describe_state(seen).astype(np.float64)


def _split(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[first : first + _CHUNK] for first in range(0, len(rows), _CHUNK)]
