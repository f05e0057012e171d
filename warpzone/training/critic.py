"""A critic that reads the console's memory, while the actor sees pictures.

Asymmetric actor-critic, Pinto et al. 2018, https://arxiv.org/abs/1710.06542. What a
state is worth is plain from positions, speeds and enemies, and costs next to nothing
to learn from them; the actor's network is left to the actor. Nobody needs the critic
to play.
"""

import numpy as np
import torch
from torch.nn.functional import mse_loss

from warpzone.agents.policy import Policy
from warpzone.training.checkpoint import (
    optimizer_tensors,
    restore_optimizer,
    with_prefix,
    without_prefix,
)

_BATCH = 256


class Critic:
    """Predicts returns: the critic of a policy that reads RAM, its actor left alone.

    Args:
        policy: Is trained in place.
        learning_rate: Of Adam.
    """

    def __init__(self, policy: Policy, learning_rate: float) -> None:
        self._policy = policy
        self._weights = {
            name: parameter
            for name, parameter in policy.named_parameters()
            if name.startswith(("mlp_extractor.value_net", "value_net"))
        }
        self._optimizer = torch.optim.Adam(self._weights.values(), learning_rate)

    def values(self, ram: np.ndarray) -> np.ndarray:
        """Predict the returns of states.

        Args:
            ram: Shape ``(..., 2048)``, uint8.

        Returns:
            Shape ``(...)``, float32.
        """
        states = torch.from_numpy(ram.reshape(-1, ram.shape[-1]))
        with torch.inference_mode():
            flat = self._policy.predict_values(states.to(self._policy.device))
        return flat.cpu().numpy().reshape(ram.shape[:-1])

    def fit(self, ram: np.ndarray, returns: np.ndarray, epochs: int) -> float:
        """Learn the returns of states, in batches that NumPy's generator shuffles.

        Args:
            ram: Shape ``(..., 2048)``, uint8.
            returns: Shape ``(...)``, float32.
            epochs: How often each state is used.

        Returns:
            The mean squared error over all batches.
        """
        policy = self._policy
        states = torch.from_numpy(ram.reshape(-1, ram.shape[-1])).to(policy.device)
        targets = torch.from_numpy(returns.reshape(-1)).to(policy.device)
        # Read once, not in every epoch.
        features = policy.extract_features(states)
        losses = []
        for _ in range(epochs):
            # The source of randomness that SB3 uses.
            order = torch.from_numpy(np.random.permutation(len(states)))  # noqa: NPY002
            for batch in order.split(_BATCH):
                latent = policy.mlp_extractor.forward_critic(features[batch])
                predicted = policy.value_net(latent).squeeze(1)
                loss = mse_loss(predicted, targets[batch])
                self._optimizer.zero_grad()
                loss.backward()
                self._optimizer.step()
                losses.append(loss.item())
        return float(np.mean(losses))

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all that was learnt; a copy, since the policy has it, too."""
        weights = {n: p.detach().clone() for n, p in sorted(self._weights.items())}
        return {
            **with_prefix("weights", weights),
            **with_prefix("optimizer", optimizer_tensors(self._optimizer)),
        }

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Go back to what `tensors` returned."""
        with torch.no_grad():
            for name, weight in without_prefix("weights", tensors).items():
                self._weights[name].copy_(weight)
        restore_optimizer(self._optimizer, without_prefix("optimizer", tensors))
