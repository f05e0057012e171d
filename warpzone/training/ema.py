"""A moving average of what a network becomes while it is trained."""

from collections.abc import Mapping
from typing import cast

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from warpzone.agents.policy import Policy, set_weights, weights_of
from warpzone.training.checkpoint import with_prefix, without_prefix


class Average:
    """A moving average of a policy's weights.

    Single steps of training push the weights to and fro, and a level full of obstacles
    shows it: their average plays better than any of them.

    Args:
        policy: The policy to follow. Before the first update it counts as it is.
        decay: What an update leaves of the average, in [0, 1].

    Attributes:
        policy: One with the averaged weights.
    """

    def __init__(self, policy: Policy, decay: float) -> None:
        self._followed = policy
        self._model = AveragedModel(
            policy, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=False
        )
        self.policy = cast(Policy, self._model.module)

    def update(self) -> None:
        """Take in what the policy has become."""
        self._model.update_parameters(self._followed)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all that the average depends on; a view."""
        weights = with_prefix("weights", weights_of(self.policy))
        return weights | {"updates": self._model.n_averaged}

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Go back to what `tensors` returned."""
        set_weights(self.policy, without_prefix("weights", tensors))
        self._model.n_averaged.copy_(tensors["updates"])
