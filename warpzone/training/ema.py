"""A moving average of what a network becomes while it is trained."""

from typing import Any, cast

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from warpzone.agents.policy import Policy


class MovingAverage:
    """A moving average of a policy's weights.

    Single steps of training push the weights to and fro, and a level full of obstacles
    shows it: their average plays better than any of them. Hilton et al. 2022,
    https://arxiv.org/abs/2110.00641.

    Args:
        policy: The policy to follow. Before the first update it counts as it is.
        decay: Weight of the old average at an update, in [0, 1].

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

    def state_dict(self) -> dict[str, Any]:
        """Return all that the average depends on."""
        return dict(self._model.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._model.load_state_dict(state)
