"""A critic that reads the console's memory, while the actor sees pictures.

Asymmetric actor-critic, Pinto et al. 2018, https://arxiv.org/abs/1710.06542. What a
state is worth is plain from positions, speeds and enemies, and costs next to nothing
to learn from them; the actor's network is left to the actor. Nobody needs the critic
to play.
"""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import mse_loss

from warpzone.agents.checkpoints import (
    optimizer_tensors,
    restore_optimizer,
    with_prefix,
    without_prefix,
)

RAM_BYTES = 2048
_UNITS = 256
_BATCH = 256


class Critic:
    """Predicts returns from RAM. Its weights are drawn from torch's generator.

    Args:
        learning_rate: Of Adam.
        device: Where it is trained.
    """

    def __init__(self, learning_rate: float, device: torch.device) -> None:
        self._device = device
        self._network = nn.Sequential(
            nn.Linear(RAM_BYTES, _UNITS),
            nn.ReLU(),
            nn.Linear(_UNITS, _UNITS),
            nn.ReLU(),
            nn.Linear(_UNITS, 1),
        ).to(device)
        self._optimizer = torch.optim.Adam(self._network.parameters(), learning_rate)

    def values(self, ram: np.ndarray) -> np.ndarray:
        """Predict the returns of states.

        Args:
            ram: Shape ``(..., 2048)``, uint8.

        Returns:
            Shape ``(...)``, float32.
        """
        with torch.inference_mode():
            flat = self._predict(torch.from_numpy(ram.reshape(-1, RAM_BYTES)))
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
        states = torch.from_numpy(ram.reshape(-1, RAM_BYTES))
        targets = torch.from_numpy(returns.reshape(-1))
        losses = []
        for _ in range(epochs):
            # The source of randomness that SB3 uses.
            order = torch.from_numpy(np.random.permutation(len(states)))  # noqa: NPY002
            for batch in order.split(_BATCH):
                goal = targets[batch].to(self._device)
                loss = mse_loss(self._predict(states[batch]), goal)
                self._optimizer.zero_grad()
                loss.backward()
                self._optimizer.step()
                losses.append(loss.item())
        return float(np.mean(losses))

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all that was learnt; a view."""
        return {
            **with_prefix("network", self._network.state_dict()),
            **with_prefix("optimizer", optimizer_tensors(self._optimizer)),
        }

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Go back to what `tensors` returned."""
        self._network.load_state_dict(without_prefix("network", tensors))
        restore_optimizer(self._optimizer, without_prefix("optimizer", tensors))

    def _predict(self, ram: torch.Tensor) -> torch.Tensor:
        return self._network(ram.to(self._device).float() / 255).squeeze(1)
