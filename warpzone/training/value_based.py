"""Value-based algorithms: double DQN and QR-DQN, also from demonstrations (DQfD).

SB3 collects what is learned from, explores, and schedules; what is here is the update.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import sb3_contrib
import stable_baselines3
import torch
from sb3_contrib.common.utils import quantile_huber_loss
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.utils import polyak_update
from torch.nn.functional import one_hot, smooth_l1_loss
from torch.nn.utils import clip_grad_norm_

from warpzone.core.params import DemonstrationsParams
from warpzone.training.memory import Batch, ReplayMemory


class ValueBased(OffPolicyAlgorithm):
    """An algorithm that learns what actions are worth, from a `ReplayMemory`.

    Deep Q-learning from demonstrations, Hester et al. 2018,
    https://arxiv.org/abs/1704.03732: a share of each batch is demonstrated. On it a
    large-margin loss, equation 4 there, holds the values of other actions a margin
    below that of the demonstrated one. Of their four parts, prioritised replay and the
    decay of weights are left out; returns of n steps take the place of two losses.
    """

    policy: Any
    replay_buffer: Any
    max_grad_norm: float | None
    target_update_interval: int
    demonstrations: DemonstrationsParams | None = None
    shown: ReplayMemory | None = None
    """The demonstrated transitions; nothing overwrites them."""

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Update the network; SB3 calls it after each rollout."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        said: dict[str, list[float]] = defaultdict(list)
        for _ in range(gradient_steps):
            batch, demonstrated = self._sample(batch_size)
            values, loss = self.td_loss(batch)
            said["td_loss"].append(loss.item())
            if self.demonstrations and demonstrated:
                shown = values[:demonstrated], batch.actions[:demonstrated, 0].long()
                margin_loss = large_margin_loss(*shown, self.demonstrations.margin)
                loss = loss + self.demonstrations.margin_weight * margin_loss
                said["margin_loss"].append(margin_loss.item())
            said["loss"].append(loss.item())
            said["q_value"].append(values.gather(1, batch.actions).mean().item())
            self.policy.optimizer.zero_grad()
            loss.backward()
            if self.max_grad_norm is not None:
                clip_grad_norm_(self.policy.player.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates)
        for name, numbers in said.items():
            self.logger.record(f"train/{name}", np.mean(numbers))

    def td_loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the Q values of a batch, ``(N, actions)``, and the loss, a number."""
        raise NotImplementedError

    def pretrain(self, on_update: Callable[[], object] = lambda: None) -> None:
        """Learn from the demonstrations alone, before the first agent step.

        The target network is updated as often as in training, counted in updates.
        """
        assert self.demonstrations is not None
        steps = self.train_freq.frequency * self.n_envs  # pyright: ignore[reportAttributeAccessIssue]
        every = max(self.target_update_interval * self.gradient_steps // steps, 1)
        network, target = self.policy.player, self.policy.target
        for update in range(1, self.demonstrations.updates + 1):
            self.train(1, self.batch_size)
            if update % every == 0:
                polyak_update(network.parameters(), target.parameters(), self.tau)
            on_update()

    def _sample(self, size: int) -> tuple[Batch, int]:
        """Return a batch, and how many of its first rows were demonstrated."""
        if self.shown is None or self.demonstrations is None:
            return self.replay_buffer.sample(size), 0
        is_alone = self.replay_buffer.size() == 0
        count = size if is_alone else round(self.demonstrations.share * size)
        parts = [(self.shown, count), (self.replay_buffer, size - count)]
        batches = [memory.sample(rows) for memory, rows in parts if rows]
        return Batch.of(batches), count


class DoubleDQN(ValueBased, stable_baselines3.DQN):
    """DQN whose network chooses what its target network judges.

    Van Hasselt et al. 2016, https://arxiv.org/abs/1509.06461: the target is
    ``r + gamma * Q_target(s', argmax_a Q(s', a))``. SB3's DQN takes the highest of the
    target's own values, which over-estimates.
    """

    def td_loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        network, target = self.policy.player, self.policy.target
        with torch.no_grad():
            best = network(batch.next_observations).argmax(dim=1, keepdim=True)
            following = target(batch.next_observations).gather(1, best)
            targets = batch.rewards + (1 - batch.dones) * batch.discounts * following
        values = network(batch.observations)
        return values, smooth_l1_loss(values.gather(1, batch.actions), targets)


class QRDQN(ValueBased, sb3_contrib.QRDQN):
    """DQN that learns quantiles of returns. Its loss is summed over them.

    Dabney et al. 2018, https://arxiv.org/abs/1710.10044, algorithm 1.
    """

    def td_loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        network, target = self.policy.player, self.policy.target
        with torch.no_grad():
            following = target(batch.next_observations)
            best = following.mean(dim=1).argmax(dim=1)
            targets = batch.rewards + (
                (1 - batch.dones) * batch.discounts * _of(following, best)
            )
        quantiles = network(batch.observations)
        chosen = _of(quantiles, batch.actions[:, 0])
        return quantiles.mean(dim=1), quantile_huber_loss(chosen, targets)


def large_margin_loss(
    values: torch.Tensor, demonstrated: torch.Tensor, margin: float
) -> torch.Tensor:
    """Return ``max_a (Q(s, a) + l(a_E, a)) - Q(s, a_E)``, as a mean over states.

    ``l`` is the margin, but 0 for the demonstrated action ``a_E``. Equation 4 of Hester
    et al. 2018, https://arxiv.org/abs/1704.03732.

    Args:
        values: Q values, shape ``(N, actions)``.
        demonstrated: Actions, shape ``(N,)``, int64.
        margin: In units of the reward.
    """
    chosen = one_hot(demonstrated, values.shape[1])
    above = (values + margin * (1 - chosen)).max(dim=1).values
    return (above - values.gather(1, demonstrated[:, None])[:, 0]).mean()


def _of(quantiles: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """Return the quantiles of one action each, ``(N, quantiles)``."""
    index = actions[:, None, None].expand(-1, quantiles.shape[1], 1)
    return quantiles.gather(2, index)[:, :, 0]
