"""Policies, and agents that play as they say."""

import ctypes
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import gymnasium as gym
import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from warpzone import IS_LATE
from warpzone.agents.networks import (
    CRITIC,
    POLICIES,
    AsymmetricPolicy,
    QNetwork,
    QuantileNetwork,
)
from warpzone.core.errors import InputError
from warpzone.core.params import DeviceName
from warpzone.episodes.agent import Observations

Policy = AsymmetricPolicy | QNetwork | QuantileNetwork
"""What plays, of what SB3's algorithms train: an actor with its critic, or a network of
Q values or of quantiles without its target network."""

# glibc's names of settings, from malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3

# Matrix products are rounded differently for each number of rows, so that is fixed too.
_ROWS = 16

# From the oldest frame of a stack to the newest, where the screen scrolls, more than an
# eighth of the pixels change; where it does not, at most a fortieth.
_CHANGE = 16
_MOVING_SHARE = 0.05


@dataclass(frozen=True)
class PolicyAgent:
    """Plays as a policy says."""

    policy: Policy
    key: str
    """What its actor sees."""
    temperature: float
    """Divides the logits before an action is drawn; 0 takes the likeliest action. Those
    of a value-based policy are its Q values, in units of the reward."""
    idle_temperature: float | None = None
    """The same where the screen stands still; ``temperature`` if None, or where the
    agent sees no frames. Where an action changes nothing, whoever always takes the
    likeliest one takes it for ever."""

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.key,)

    @property
    def memory_size(self) -> int:
        return self.policy.MEMORY

    def playing(self, policy: Policy) -> "PolicyAgent":
        """Return who plays in the same way as another policy says."""
        return replace(self, policy=policy)

    def act(
        self,
        observations: Observations,
        memories: np.ndarray,
        rngs: Sequence[np.random.Generator],
    ) -> tuple[np.ndarray, np.ndarray]:
        seen = observations[self.key]
        logits, memories = respond(self.policy, self.key, seen, memories)
        cumulated = self._weights(seen, logits).cumsum(axis=1)
        drawn = np.array([rng.random() for rng in rngs]) * cumulated[:, -1]
        return (cumulated <= drawn[:, None]).sum(axis=1), memories

    def action_weights(self, seen: np.ndarray) -> np.ndarray:
        """Return how likely each action is at an episode's first step.

        For observations of shape ``(N, ...)``; unnormalised, the likeliest one being 1,
        ``(N, actions)``, float64.
        """
        return self._weights(seen, action_logits(self.policy, self.key, seen))

    def _weights(self, seen: np.ndarray, logits: np.ndarray) -> np.ndarray:
        temperature: float | np.ndarray = self.temperature
        if self.idle_temperature is not None and seen.ndim == 4:
            is_idle = stands_still(seen)
            temperature = np.where(is_idle, self.idle_temperature, temperature)
        best = np.eye(logits.shape[1])[logits.argmax(axis=1)]
        below_best = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        divisor = np.broadcast_to(temperature, len(logits))[:, None]
        is_greedy = divisor == 0
        weights = np.exp(below_best / np.where(is_greedy, 1, divisor))
        return np.where(is_greedy, best, weights)


class MovingAverage(AveragedModel):
    """A moving average of a policy's weights. `update_parameters` takes in a new one.

    Single steps of training push the weights to and fro, and a level full of obstacles
    shows it: their average plays better than any of them. Hilton et al. 2022,
    https://arxiv.org/abs/2110.00641.

    Args:
        policy: What counts until the first update, which replaces it.
        decay: Weight of the old average at a later update, in [0, 1].
    """

    def __init__(self, policy: Policy, decay: float) -> None:
        ema = get_ema_multi_avg_fn(decay)
        super().__init__(policy, multi_avg_fn=ema, use_buffers=False)

    @property
    def policy(self) -> Policy:
        """The one with the averaged weights."""
        return cast(Policy, self.module)


def stands_still(frames: np.ndarray) -> np.ndarray:
    """Return where the screen does not scroll. Of a single frame nobody can tell.

    For stacks of shape ``(N, frame_stack, height, width)``, uint8; ``(N,)``, bool.
    """
    oldest, newest = frames[:, 0].astype(np.int16), frames[:, -1]
    changed = np.abs(newest - oldest) > _CHANGE
    is_still = changed.mean(axis=(1, 2)) < _MOVING_SHARE
    return is_still & (frames.shape[1] > 1)


def make_deterministic(seed: int, torch_threads: int = 2) -> None:
    """Seed torch and make equal runs end in equal bytes.

    Sums are rounded differently for each number of threads.

    Raises:
        InputError: If something has been decided otherwise before.
    """
    if IS_LATE:
        raise InputError("import warpzone before numpy and torch: it pins how they sum")
    if "hwcaps" in os.environ.get("GLIBC_TUNABLES", ""):
        raise InputError("unset GLIBC_TUNABLES: it decides how numbers are rounded")
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    # It would fill all new memory first, an eighth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    _keep_freed_memory()
    torch.set_num_threads(torch_threads)
    if (given := torch.get_num_threads()) != torch_threads:
        raise InputError(
            f"params.yaml: torch_threads = {torch_threads}: torch has {given} here"
        )


def _keep_freed_memory() -> None:
    """Have glibc keep what is freed: each batch needs as much again.

    Otherwise it gives large blocks back to the system, and asking for them anew took a
    fourteenth of an update's time.
    """
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        for threshold in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
            libc.mallopt(threshold, 2**30)


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


def build_policy(
    world: str,
    spaces: gym.spaces.Dict,
    actions: int,
    actor_key: str,
    kind: str = AsymmetricPolicy.KIND,
) -> Policy:
    """Return a new policy, whose weights are drawn from torch's generator.

    ``kind`` is one of `warpzone.agents.networks.POLICIES`.
    """
    choices = gym.spaces.Discrete(actions)
    trained = POLICIES[kind](
        spaces, choices, lambda _: 0.0, actor_key=actor_key, world=world
    )
    trained.player.set_training_mode(False)
    return trained.player


def weights_of(policy: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return each weight once, though SB3's ``state_dict`` lists shared ones twice.

    They are the policy's own, in the order of their names.
    """
    return {name: p.detach() for name, p in sorted(policy.named_parameters())}


def set_weights(policy: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy weights that `weights_of` returned into a policy."""
    for name, weight in weights_of(policy).items():
        weight.copy_(weights[name])


def copy_critic(policy: Policy, teacher: Policy) -> None:
    """Give a policy the critic of another one: both read the state."""
    for part in CRITIC:
        set_weights(getattr(policy, part), weights_of(getattr(teacher, part)))


def action_logits(policy: Policy, key: str, seen: np.ndarray) -> np.ndarray:
    """Return the logits of `respond` at an episode's first step."""
    nothing = np.zeros((len(seen), policy.MEMORY), np.float32)
    return respond(policy, key, seen, nothing)[0]


def respond(
    policy: Policy, key: str, seen: np.ndarray, memories: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the log-probabilities or Q values of actions, and what is remembered next.

    Shapes ``(N, actions)`` and ``(N, MEMORY)``, float32. Each row depends on its
    observation and its memory only, to the bit.
    """
    batches = zip(*(_batches(one, policy) for one in (seen, memories)), strict=True)
    with torch.inference_mode():
        parts = [policy.respond({key: part}, memory) for part, memory in batches]
    logits, memories = (
        torch.cat(part).cpu().numpy()[: len(seen)] for part in zip(*parts, strict=True)
    )
    return logits, memories


def _batches(rows: np.ndarray, policy: Policy) -> Sequence[torch.Tensor]:
    """Return batches of `_ROWS`, the last one filled up with zeros."""
    size = -(-len(rows) // _ROWS) * _ROWS
    padded = np.zeros((size, *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return torch.from_numpy(padded).to(policy.device).split(_ROWS)
