"""The networks that read observations, one for pixels and one for states.

Each returns `FEATURES` numbers; SB3 puts one linear layer on them.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.qrdqn import policies as qrdqn
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.dqn import policies as dqn
from torch import nn

from warpzone.envs.registry import env_class

FEATURES = 256

QUANTILES = 50
"""Of each action's return. Dabney et al. take 200, which a processor is slow at."""

CRITIC = ("vf_features_extractor", "value_net")
"""Parts of an `AsymmetricPolicy` that are the critic's; the others are the actor's."""

ADAM = {"eps": 1e-5, "fused": True}
"""How weights are optimised: with SB3's epsilon for actors and critics.

Fused, Adam takes exact square roots: MKL's start from an approximation, and each maker
of processors has its own. Fused, it also needs gradients that are laid out as the
weights are, as autograd's are.
"""


def _multiply(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Return ``x @ weight.T + bias``, by oneDNN."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Product(torch.autograd.Function):
    """`torch.nn.functional.linear` of matrices, with its gradients."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return _multiply(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        [gradient] = gradients
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            # Only who wants second derivatives, as TRPO does: oneDNN has none.
            return gradient @ weight, gradient.T @ x, gradient.sum(0)
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            _multiply(gradient, weight.T) if needs_x else None,
            _multiply(gradient.T, x.T) if needs_weight else None,
            gradient.sum(0) if needs_bias else None,
        )


class Linear(nn.Linear):
    """A linear layer that rounds alike on processors of Intel and of AMD.

    Torch's own is MKL's, which has other code for each. oneDNN's is as fast.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if input.device.type != "cpu" or not torch.backends.mkldnn.is_available():
            return super().forward(input)
        if not torch.is_grad_enabled():
            return _multiply(input, self.weight, self.bias)
        return _Product.apply(input, self.weight, self.bias)  # pyright: ignore[reportReturnType]


class PixelNetwork(nn.Module):
    """The network of Mnih et al. 2013, https://arxiv.org/abs/1312.5602.

    SB3's own, that of 2015, takes 2.4 times as long and learned Mario no better. It
    reads frames of shape ``(N, frame_stack, height, width)``, uint8, or numbers in
    [0, 1], which SB3 makes of them.
    """

    def __init__(self, space: gym.spaces.Box) -> None:
        super().__init__()
        frames, height, width = space.shape
        rows, columns = ((side // 4 - 1) // 2 - 1 for side in (height, width))
        self.layers = nn.Sequential(
            nn.Conv2d(frames, 16, kernel_size=8, stride=4),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=4, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            Linear(32 * rows * columns, FEATURES),
            nn.ReLU(),
        )

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        # The weights are laid out like that, too: see `AsymmetricPolicy`.
        rows = frames.permute(0, 2, 3, 1)
        if frames.dtype == torch.uint8:
            # An eighth of the time of SB3's way, which copies floats three times.
            rows = torch.empty(rows.shape, device=rows.device).copy_(rows).div_(255.0)
        return self.layers(rows.contiguous().permute(0, 3, 1, 2))


class StateNetwork(nn.Module):
    """Two tanh layers on what a world's `describe_state` says of its state."""

    def __init__(self, space: gym.spaces.Box, world: str) -> None:
        super().__init__()
        self._describe = env_class(world).describe_state
        inputs = self._describe(np.zeros((1, *space.shape), space.dtype)).shape[1]
        self.layers = nn.Sequential(
            Linear(inputs, FEATURES),
            nn.Tanh(),
            Linear(FEATURES, FEATURES),
            nn.Tanh(),
        )

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        described = self._describe(states.cpu().numpy())
        return self.layers(torch.from_numpy(described).to(states.device))


class KeyFeatures(BaseFeaturesExtractor):
    """Reads one key of a dictionary of observations."""

    def __init__(self, space: gym.spaces.Dict, key: str, world: str) -> None:
        super().__init__(space, FEATURES)
        self.key = key
        one: Any = space[key]
        is_frames = len(one.shape) == 3
        self.network = PixelNetwork(one) if is_frames else StateNetwork(one, world)

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.network(observations[self.key])


class LSTM(nn.Module):
    """One layer of long short-term memory, of `FEATURES` numbers, made of `Linear`.

    Hochreiter and Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735, with
    torch's order of gates and its distribution of new weights. Torch's own layer is
    oneDNN's, which has one code for training and another for playing, and crashes on
    the processors that tests/training/test_processors.py emulates.
    """

    # What sb3-contrib asks for.
    num_layers, hidden_size = 1, FEATURES

    def __init__(self) -> None:
        super().__init__()
        self.seen = Linear(FEATURES, 4 * FEATURES)
        self.remembered = Linear(FEATURES, 4 * FEATURES)

    def forward(
        self, seen: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take a step: return the hidden state, which is the output, and the cell's.

        Args:
            seen: What `seen` makes of the features, shape ``(N, 4 * FEATURES)``.
            hidden: The state after the step before, shape ``(N, FEATURES)``.
            cell: The same of the cell.
        """
        gates = (seen + self.remembered(hidden)).chunk(4, dim=1)
        write, keep, show = (torch.sigmoid(gates[index]) for index in (0, 1, 3))
        cell = keep * cell + write * torch.tanh(gates[2])
        return show * torch.tanh(cell), cell


class AsymmetricPolicy(ActorCriticPolicy):
    """An actor that sees what the agent sees, and a critic that sees the state.

    Pinto et al. 2018, https://arxiv.org/abs/1710.06542. What a state is worth is plain
    from positions, speeds and enemies, and costs next to nothing to learn from them;
    the actor's network is left to the actor. Nobody needs the critic to play.

    Args:
        args: SB3's: the space of observations, a dictionary, that of actions, and a
            schedule of learning rates.
        actor_key: What the actor reads.
        world: Whose observations they are.
        kwargs: Further ones of SB3's policy.
    """

    KIND = "actor-critic"
    MEMORY = 0
    """Numbers that it remembers of an episode; all are 0 at first."""

    def __init__(self, *args: Any, actor_key: str, world: str, **kwargs: Any) -> None:
        self._keys = iter((actor_key, "state"))
        self._world = world
        kwargs = {"optimizer_kwargs": ADAM} | kwargs
        super().__init__(*args, net_arch=[], share_features_extractor=False, **kwargs)
        # It trains about twice as fast on a CPU. SB3 initialises weights in the usual
        # layout, so this comes after; the optimizer keeps its hold on them.
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    @property
    def player(self) -> "AsymmetricPolicy":
        """What is averaged, saved and played: all of it."""
        return self

    def logits(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the log-probability of every action, shape ``(N, actions)``."""
        distribution = self.get_distribution(observations).distribution
        return distribution.logits  # pyright: ignore[reportAttributeAccessIssue]

    def respond(
        self, observations: dict[str, torch.Tensor], memories: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits, and what is remembered next, shape ``(N, MEMORY)``."""
        return self.logits(observations), memories

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        """Return the actor's at the first call and the critic's at the second."""
        space: Any = self.observation_space
        return KeyFeatures(space, next(self._keys), self._world)

    # As SB3 has them, but that observations are not made floats first: each network
    # does so with what it reads.

    def extract_features(
        self, obs: Any, features_extractor: BaseFeaturesExtractor | None = None
    ) -> Any:
        return self.pi_features_extractor(obs), self.vf_features_extractor(obs)

    def get_distribution(self, obs: Any) -> Distribution:
        return self._get_action_dist_from_latent(self.pi_features_extractor(obs))

    def predict_values(self, obs: Any) -> torch.Tensor:
        return self.value_net(self.vf_features_extractor(obs))


class RecurrentPolicy(AsymmetricPolicy, RecurrentActorCriticPolicy):
    """An actor that remembers what it has seen, and a critic that sees the state.

    The actor has an `LSTM` before its last layer. The critic is that of
    `AsymmetricPolicy`: who sees the state has nothing to remember.

    Args:
        args: As those of `AsymmetricPolicy`.
        kwargs: The same.
    """

    KIND = "recurrent"
    MEMORY = 2 * FEATURES
    """The hidden state and the cell state."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs |= {"lstm_hidden_size": FEATURES, "enable_critic_lstm": False}
        super().__init__(*args, **kwargs)
        # In the place of torch's LSTM, and of a layer that makes the critic's features
        # as many as the actor's.
        self.lstm_actor: Any = LSTM()
        self.critic: Any = nn.Identity()
        adam = self.optimizer
        self.optimizer = type(adam)(self.parameters(), **adam.defaults)

    def logits(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return those of an episode's first step, shape ``(N, actions)``."""
        rows = len(next(iter(observations.values())))
        nothing = torch.zeros(rows, self.MEMORY, device=self.device)
        return self.respond(observations, nothing)[0]

    def respond(
        self, observations: dict[str, torch.Tensor], memories: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        states = memories[None].chunk(2, dim=2)
        starts = torch.zeros(len(memories), device=memories.device)
        distribution, states = self.get_distribution(observations, states, starts)
        return distribution.distribution.logits, torch.cat(states, dim=2)[0]

    # What sb3-contrib calls; a state has the shape (1, N, FEATURES).

    def get_distribution(self, obs: Any, lstm_states: Any, episode_starts: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        features = self.pi_features_extractor(obs)
        given = lstm_states, episode_starts, self.lstm_actor
        latent, states = self._process_sequence(features, *given)
        return self._get_action_dist_from_latent(latent), states

    def predict_values(
        self, obs: Any, lstm_states: Any = None, episode_starts: Any = None
    ) -> torch.Tensor:
        return super().predict_values(obs)

    @staticmethod
    def _process_sequence(
        features: torch.Tensor, lstm_states: Any, episode_starts: Any, lstm: Any
    ) -> Any:
        """Take a step after another; rows are those of one sequence after another.

        sb3-contrib lets a sequence end with its episode, so the first step alone may
        begin one.
        """
        sequences = lstm_states[0].shape[1]
        seen = lstm.seen(features).unflatten(0, (sequences, -1))
        goes_on = 1 - episode_starts.reshape(sequences, -1)[:, :1]
        hidden, cell = (state[0] * goes_on for state in lstm_states)
        shown = []
        for step in seen.unbind(1):
            hidden, cell = lstm(step, hidden, cell)
            shown.append(hidden)
        return torch.stack(shown, dim=1).flatten(0, 1), (hidden[None], cell[None])


class _ValueNetwork:
    """A network of what actions are worth, from one key of the observations."""

    MEMORY = 0
    features_extractor: Any
    logits: Callable[[dict[str, torch.Tensor]], torch.Tensor]

    def respond(
        self, observations: dict[str, torch.Tensor], memories: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits, and what is remembered next: nothing."""
        return self.logits(observations), memories

    def extract_features(self, obs: Any, features_extractor: Any = None) -> Any:
        # As `AsymmetricPolicy` has it.
        return self.features_extractor(obs)


class QNetwork(_ValueNetwork, dqn.QNetwork):
    """What each action is worth, from one key of the observations.

    Mnih et al. 2013, https://arxiv.org/abs/1312.5602.
    """

    KIND = "q"

    def __init__(
        self, space: gym.spaces.Dict, actions: gym.spaces.Discrete, key: str, world: str
    ) -> None:
        features = KeyFeatures(space, key, world)
        super().__init__(space, actions, features, FEATURES, net_arch=[])
        self.q_net = nn.Sequential(Linear(FEATURES, int(actions.n)))
        # As `AsymmetricPolicy` is laid out.
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def logits(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the Q value of every action, shape ``(N, actions)``."""
        return self(observations)


class QuantileNetwork(_ValueNetwork, qrdqn.QuantileNetwork):
    """Quantiles of what each action returns, from one key of the observations.

    Dabney et al. 2018, https://arxiv.org/abs/1710.10044.
    """

    KIND = "quantiles"

    def __init__(
        self, space: gym.spaces.Dict, actions: gym.spaces.Discrete, key: str, world: str
    ) -> None:
        features = KeyFeatures(space, key, world)
        super().__init__(space, actions, features, FEATURES, QUANTILES, net_arch=[])
        head = Linear(FEATURES, int(actions.n) * QUANTILES)
        self.quantile_net = nn.Sequential(head)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def logits(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the mean of every action's quantiles, shape ``(N, actions)``."""
        return self(observations).mean(dim=1)


class _ValuePolicy:
    """What a value-based algorithm trains: a network, and its target network.

    Args:
        args: As those of `AsymmetricPolicy`.
        actor_key: What the network reads.
        world: Whose observations they are.
        kwargs: Further ones of SB3's policy.
    """

    def __init__(self, *args: Any, actor_key: str, world: str, **kwargs: Any) -> None:
        self._reads = actor_key, world
        super().__init__(*args, **{"optimizer_kwargs": ADAM} | kwargs)

    def _make(self, network: Any) -> Any:
        policy: Any = self
        return network(policy.observation_space, policy.action_space, *self._reads)


class QPolicy(_ValuePolicy, dqn.DQNPolicy):
    """What DQN trains."""

    KIND = QNetwork.KIND
    player = property(attrgetter("q_net"), doc="What is averaged, saved and played.")
    target = property(attrgetter("q_net_target"))

    def make_q_net(self) -> QNetwork:
        return self._make(QNetwork)


class QuantilePolicy(_ValuePolicy, qrdqn.QRDQNPolicy):
    """What QR-DQN trains."""

    KIND = QuantileNetwork.KIND
    player = property(attrgetter("quantile_net"), doc=QPolicy.player.__doc__)
    target = property(attrgetter("quantile_net_target"))

    def make_quantile_net(self) -> QuantileNetwork:
        return self._make(QuantileNetwork)


POLICIES = {
    policy.KIND: policy
    for policy in (AsymmetricPolicy, RecurrentPolicy, QPolicy, QuantilePolicy)
}
"""What algorithms train, by the kind of its `player`."""
