"""The network that plays, agents that act, and the folder a network is stored in."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import gymnasium as gym
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from warpzone.agents.provenance import deciding_facts
from warpzone.core.errors import InputError
from warpzone.core.files import write_bytes, write_json
from warpzone.core.params import DeviceName, GameParams, Params, Section
from warpzone.envs.mario.actions import ACTION_SETS
from warpzone.envs.mario.cartridge import rom_sha256
from warpzone.envs.mario.observation import ObsType, make_view, stands_still
from warpzone.envs.mario.surroundings import SURROUNDINGS, read_surroundings
from warpzone.episodes.agent import Agent, RandomAgent

Policy = ActorCriticPolicy
"""An actor and a critic, as SB3's algorithms train them."""

WEIGHTS = "policy.safetensors"
SPEC = "policy.json"

# What a network's input and output mean. The level and the reward may differ: a policy
# can be tried on another level and trained on for another reward.
_INTERFACE = (
    "height",
    "width",
    "frame_stack",
    "crop_hud",
    "show_buttons",
    "action_set",
    "frame_skip",
)

# Sums are rounded differently for each number of threads, so it is fixed.
_TORCH_THREADS = 2

# Matrix products are rounded differently for each number of rows, so that is fixed too.
_ROWS = 16


class SmallCNN(BaseFeaturesExtractor):
    """Reads pictures: the network of Mnih et al. 2013, https://arxiv.org/abs/1312.5602.

    SB3's own, that of 2015, takes 2.4 times as long and learned this game no better.
    """

    def __init__(self, observation_space: gym.spaces.Box) -> None:
        super().__init__(observation_space, features_dim=256)
        frames, height, width = observation_space.shape
        rows, columns = ((side // 4 - 1) // 2 - 1 for side in (height, width))
        self.layers = nn.Sequential(
            nn.Conv2d(frames, 16, kernel_size=8, stride=4),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=4, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * rows * columns, 256),
            nn.ReLU(),
        )

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.layers(observations)


class Surroundings(BaseFeaturesExtractor):
    """What RAM says is around Mario, see `warpzone.envs.mario.surroundings`."""

    def __init__(self, observation_space: gym.Space) -> None:
        super().__init__(observation_space, features_dim=SURROUNDINGS)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        # SB3 has made floats of the bytes.
        ram = observations.cpu().numpy()
        return torch.from_numpy(read_surroundings(ram)).to(observations.device)


POLICY_KWARGS: dict[ObsType, dict[str, Any]] = {
    "pictures": {"features_extractor_class": SmallCNN, "net_arch": []},
    "ram": {
        "features_extractor_class": Surroundings,
        "net_arch": {"pi": [256, 256], "vf": [256, 256]},
    },
}
"""What SB3's policy is built with. RAM is read by two tanh layers for the actor
and two for the critic."""


class PolicyAgent:
    """Plays as a policy says.

    Args:
        policy: The network.
        temperature: Divides the logits before an action is drawn; 0 takes the likeliest
            action.
        idle_temperature: The same where the picture stands still; ``temperature`` if
            not given. Where an action changes nothing, whoever always takes the
            likeliest one takes it for ever.
    """

    def __init__(
        self,
        policy: Policy,
        temperature: float,
        idle_temperature: float | None = None,
    ) -> None:
        self._policy = policy
        self._temperature = temperature
        self._idle_temperature = idle_temperature

    @classmethod
    def as_measured(
        cls, policy: Policy, params: Params, obs_type: ObsType = "pictures"
    ) -> Self:
        """Return how a policy plays wherever it is measured; the teacher sees RAM."""
        if obs_type == "ram":
            return cls(policy, params.train_teacher.temperature)
        evaluate = params.evaluate
        return cls(policy, evaluate.temperature, evaluate.idle_temperature)

    def act(
        self, observations: np.ndarray, rngs: Sequence[np.random.Generator]
    ) -> np.ndarray:
        temperature: float | np.ndarray = self._temperature
        if self._idle_temperature is not None:
            is_idle = stands_still(observations)
            temperature = np.where(is_idle, self._idle_temperature, temperature)
        odds = action_odds(self._policy, observations, temperature)
        cumulated = odds.cumsum(axis=1)
        drawn = np.array([rng.random() for rng in rngs]) * cumulated[:, -1]
        return (cumulated <= drawn[:, None]).sum(axis=1)


def make_deterministic(seed: int) -> None:
    """Seed torch and make equal runs end in equal bytes."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    # It would fill all new memory first, an eighth of the time, in case somebody reads
    # what nobody wrote.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    torch.set_num_threads(_TORCH_THREADS)


def find_device(name: DeviceName) -> torch.device:
    """Return the device that params.yaml asks for.

    Raises:
        InputError: If a GPU is asked for and there is none.
    """
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise InputError(
            "params.yaml: device = 'cuda': torch finds no GPU here: use cpu or auto"
        )
    return torch.device("cuda" if has_gpu and name != "cpu" else "cpu")


def build_policy(game: GameParams, obs_type: ObsType = "pictures") -> Policy:
    """Return a new policy: SB3's own, with the network that `POLICY_KWARGS` names.

    The weights are drawn from torch's generator, see `make_deterministic`. Only the
    actor of one that sees pictures is used: the value head that SB3 gives it says 0.
    `warpzone.training.critic` says why.
    """
    policy = ActorCriticPolicy(
        gym.spaces.Box(0, 255, make_view(game, obs_type).shape, np.uint8),
        gym.spaces.Discrete(len(ACTION_SETS[game.action_set])),
        lr_schedule=lambda _: 0.0,
        **POLICY_KWARGS[obs_type],
    )
    policy.set_training_mode(False)
    if obs_type == "pictures":
        with torch.no_grad():
            for parameter in policy.value_net.parameters():
                parameter.zero_()
    return fast_on_cpu(policy)


def fast_on_cpu(policy: Policy) -> Policy:
    """Lay the weights out channels last, which trains about twice as fast on a CPU.

    In place, and the optimizer keeps its hold on them. SB3 initialises its weights in
    the usual layout, so this comes after.
    """
    return policy.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def weights_of(policy: Policy) -> dict[str, torch.Tensor]:
    """Return each weight once, though SB3's ``state_dict`` lists shared ones thrice.

    They are the policy's own, in the order of their names.
    """
    return {name: p.detach() for name, p in sorted(policy.named_parameters())}


def set_weights(policy: Policy, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy weights that `weights_of` returned into a policy."""
    for name, weight in weights_of(policy).items():
        weight.copy_(weights[name])


def to_tensor(observations: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return observations as a network reads them fastest, ``(N, ...)``, uint8."""
    tensor = torch.from_numpy(observations).to(device)
    is_of_pictures = tensor.dim() == 4
    return tensor.to(memory_format=torch.channels_last) if is_of_pictures else tensor


def log_probs_of(policy: Policy, observations: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of every action, shape ``(N, actions)``."""
    distribution = policy.get_distribution(observations).distribution
    return distribution.logits  # pyright: ignore[reportAttributeAccessIssue]


def action_logits(policy: Policy, observations: np.ndarray) -> np.ndarray:
    """Log-probabilities of every action, shape ``(N, actions)``, float32.

    Each row depends on its observation only, to the bit.
    """
    rows = len(observations)
    padded = np.zeros((-(-rows // _ROWS) * _ROWS, *observations.shape[1:]), np.uint8)
    padded[:rows] = observations
    with torch.inference_mode():
        parts = [
            log_probs_of(policy, part)
            for part in to_tensor(padded, policy.device).split(_ROWS)
        ]
    return torch.cat(parts).cpu().numpy()[:rows]


def action_odds(
    policy: Policy, observations: np.ndarray, temperature: float | np.ndarray
) -> np.ndarray:
    """How likely each action is when a policy plays, the likeliest one being 1.

    Args:
        policy: The network.
        observations: Shape ``(N, ...)``, uint8.
        temperature: As `PolicyAgent` has it; one for all, or shape ``(N,)``.

    Returns:
        Shape ``(N, actions)``, float64.
    """
    logits = action_logits(policy, observations)
    best = np.eye(logits.shape[1])[logits.argmax(axis=1)]
    below_best = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    divisor = np.broadcast_to(temperature, len(logits))[:, None]
    is_greedy = divisor == 0
    return np.where(
        is_greedy, best, np.exp(below_best / np.where(is_greedy, 1, divisor))
    )


def describe_origin(stage: str, params: Section, seed: int) -> dict[str, Any]:
    """Say how a policy was made: by what, with which values and which versions."""
    packages = (
        "torch",
        "stable-baselines3",
        "numpy",
        "nes-py",
        "stable-retro",
        "gym-super-mario-bros",
    )
    return {
        "stage": stage,
        "params": params.model_dump(mode="json"),
        "seed": seed,
        **deciding_facts(packages),
        "rom_sha256": rom_sha256(),
    }


class _Spec(BaseModel):
    """What policy.json holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: dict[str, Any]
    game: GameParams
    origin: dict[str, Any]
    weights_sha256: str


def save_policy(
    policy: Policy,
    folder: Path,
    game: GameParams,
    origin: dict[str, Any],
) -> None:
    """Write a policy: equal bytes for equal arguments.

    Args:
        policy: The network.
        folder: Is created if need be.
        game: What it was trained on.
        origin: How it was made, for people to read.
    """
    tensors = weights_of(policy)
    weights = save({name: t.cpu().contiguous() for name, t in tensors.items()})
    spec = _Spec(
        architecture=_architecture(policy),
        game=game,
        origin=origin,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
    )
    # If only one of the two gets written, the checksum tells.
    write_bytes(folder / WEIGHTS, weights)
    write_json(folder / SPEC, spec.model_dump(mode="json"))


def load_policy(
    folder: Path, game: GameParams, obs_type: ObsType = "pictures"
) -> Policy:
    """Read a policy that plays ``game``, ready to act.

    Raises:
        InputError: In one line, if the folder is missing or damaged, or if the policy
            was made for other observations or actions.
    """
    spec = _read_spec(folder / SPEC)
    for name in _INTERFACE:
        found, needed = getattr(spec.game, name), getattr(game, name)
        if found != needed:
            raise InputError(
                f"{folder}: the policy was made for {name} {found!r}, "
                f"params.yaml has {needed!r}: train it again"
            )
    policy = build_policy(game, obs_type)
    if spec.architecture != (needed := _architecture(policy)):
        raise InputError(
            f"{folder / SPEC}: the policy's architecture is {spec.architecture}, "
            f"this version builds {needed}"
        )
    tensors = _read_weights(folder / WEIGHTS, spec.weights_sha256)
    parameters = weights_of(policy)
    if tensors.keys() != parameters.keys():
        raise InputError(
            f"{folder / WEIGHTS}: lacks {sorted(parameters.keys() - tensors.keys())} "
            f"and has unknown {sorted(tensors.keys() - parameters.keys())}"
        )
    for name, parameter in parameters.items():
        found, needed = _form(tensors[name]), _form(parameter)
        if found != needed:
            raise InputError(
                f"{folder / WEIGHTS}: {name} is {found}, the network needs {needed}"
            )
    set_weights(policy, tensors)
    return policy


def load_agent(folder: Path | None, params: Params) -> Agent:
    """Return the agent that a folder holds; without one, random play.

    Raises:
        InputError: As `load_policy` does.
    """
    if folder is None:
        return RandomAgent(len(ACTION_SETS[params.game.action_set]))
    return PolicyAgent.as_measured(load_policy(folder, params.game), params)


def _architecture(policy: Policy) -> dict[str, Any]:
    return {
        "class": type(policy).__name__,
        "features_extractor": type(policy.features_extractor).__name__,
        "features_dim": policy.features_dim,
        "net_arch": policy.net_arch,
        "share_features_extractor": policy.share_features_extractor,
    }


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _read_spec(path: Path) -> _Spec:
    try:
        return _Spec.model_validate_json(_read(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        where = where.encode("unicode_escape").decode() or "the file"
        raise InputError(f"{path}: {where}: {first['msg']}") from error


def _read_weights(path: Path, sha256: str) -> dict[str, torch.Tensor]:
    content = _read(path)
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise InputError(
            f"{path}: is damaged or not the one that {SPEC} describes: its SHA-256 is "
            f"{found}, {SPEC} says {sha256}"
        )
    try:
        return load(content)
    except SafetensorError as error:
        raise InputError(
            f"{path}: is not in the safetensors format: {error}"
        ) from error


def _form(tensor: torch.Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)}"
