"""Behavioural cloning: the policy learns to press what the demonstrations press."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from warpzone.agents.policy import (
    Policy,
    action_logits,
    log_probs_of,
    set_weights,
    to_tensor,
    weights_of,
)
from warpzone.core.errors import InputError
from warpzone.core.params import CloningParams, GameParams
from warpzone.envs.mario.actions import ACTION_SETS
from warpzone.envs.mario.observation import ObsType
from warpzone.episodes.recording import Recording, watch
from warpzone.training.checkpoint import (
    optimizer_tensors,
    restore_optimizer,
    with_prefix,
    without_prefix,
)
from warpzone.training.ema import Average


@dataclass(frozen=True)
class Demonstration:
    """One or more episodes as the policy would have seen them."""

    observations: np.ndarray
    """Shape ``(T, frame_stack, height, width)`` or, of RAM, ``(T, 2048)``, uint8; row t
    precedes action t."""
    probabilities: np.ndarray
    """Of each action, shape ``(T, actions)``, float32; 0 and 1 where somebody was
    watched."""

    def __len__(self) -> int:
        return len(self.observations)

    @property
    def actions(self) -> np.ndarray:
        """The likeliest ones, shape ``(T,)``, int64."""
        return self.probabilities.argmax(axis=1)


# Of the average, per update.
_DECAY = 0.99


class Fit(NamedTuple):
    """How well the actor did: while it was fitted, or on pairs that it is measured on.

    A mean over those pairs, or over all batches that it was fitted to.
    """

    loss: float
    """Mean cross-entropy, in nats."""
    accuracy: float
    """Share of the actions that were the likeliest one."""


class Cloner:
    """Fits a policy's actor to demonstrations by cross-entropy. The critic stays.

    The pictures are never shifted or flipped: where things are on the screen is when
    to jump.

    Args:
        policy: Is trained in place, on the device that it is on.
        params: How to train.
        rng: Draws the batches.

    Attributes:
        average: Of the policy's weights, over some hundred updates. It is what plays.
    """

    def __init__(
        self, policy: Policy, params: CloningParams, rng: np.random.Generator
    ) -> None:
        self._policy = policy
        self._params = params
        self._rng = rng
        self.average = Average(policy, _DECAY)
        self._optimizer = torch.optim.AdamW(
            policy.parameters(), params.learning_rate, weight_decay=params.weight_decay
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all that training has changed so far; a view."""
        return {
            **with_prefix("policy", weights_of(self._policy)),
            **with_prefix("average", self.average.tensors()),
            **with_prefix("optimizer", optimizer_tensors(self._optimizer)),
        }

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Go back to what `tensors` returned."""
        set_weights(self._policy, without_prefix("policy", tensors))
        self.average.restore(without_prefix("average", tensors))
        restore_optimizer(self._optimizer, without_prefix("optimizer", tensors))

    def fit(
        self,
        episodes: Sequence[Demonstration],
        updates: int,
        anneal: bool = False,
        on_update: Callable[[], object] = lambda: None,
    ) -> Fit:
        """Go on training.

        Args:
            episodes: What to learn from, each of their steps as often as any other.
            updates: Batches to draw, with replacement.
            anneal: Let the learning rate fall to nothing, in a straight line.
            on_update: Called after each update.
        """
        rate, size = self._params.learning_rate, self._params.batch_size
        ends = np.cumsum([len(episode) for episode in episodes])
        loss_sum, right = 0.0, 0
        for update in range(updates):
            [group] = self._optimizer.param_groups
            group["lr"] = rate * (1 - update / updates) if anneal else rate
            # Sorted, to read memory in order.
            batch = np.sort(self._rng.integers(ends[-1], size=size))
            # A step is counted from its episode's end.
            drawn = [
                (episodes[episode], step - ends[episode])
                for step, episode in zip(
                    batch, np.searchsorted(ends, batch, "right"), strict=True
                )
            ]
            seen = np.stack([episode.observations[step] for episode, step in drawn])
            odds = np.stack([episode.probabilities[step] for episode, step in drawn])
            wanted = torch.from_numpy(odds).to(self._policy.device)
            logits = log_probs_of(self._policy, to_tensor(seen, self._policy.device))
            loss = cross_entropy(logits, wanted)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            self.average.update()
            loss_sum += loss.item()
            right += int((logits.argmax(dim=1) == wanted.argmax(dim=1)).sum())
            on_update()
        return Fit(loss_sum / updates, right / (updates * size))


def watch_all(
    recordings: Sequence[Recording],
    game: GameParams,
    source: str,
    on_episode: Callable[[], object] = lambda: None,
    obs_type: ObsType = "pictures",
) -> list[Demonstration]:
    """Replay recordings side by side, each one checked, and see what was seen.

    Args:
        recordings: What to play.
        game: How agents see the game and what they may press.
        source: The file that the recordings come from, for messages.
        on_episode: Called after each recording.
        obs_type: As `warpzone.envs.mario.env.MarioEnv` has it.

    Raises:
        InputError: If a replay fails or does not fit the game.
    """
    certain = np.eye(len(ACTION_SETS[game.action_set]), dtype=np.float32)

    def watch_line(line: int) -> Demonstration:
        observations, actions = watch(
            recordings[line], game, f"{source}, line {line + 1}", obs_type
        )
        return Demonstration(observations, certain[actions])

    demonstrations = []
    with ThreadPoolExecutor(os.process_cpu_count()) as pool:
        for demonstration in pool.map(watch_line, range(len(recordings))):
            demonstrations.append(demonstration)
            on_episode()
    return demonstrations


def split_episodes(
    episodes: Sequence[Demonstration], held_out_share: float
) -> tuple[Sequence[Demonstration], Sequence[Demonstration]]:
    """Divide whole episodes into those to train on and, the last ones, to hold out.

    Neighbouring frames are near-copies, so a split by transition would leak.

    Raises:
        InputError: If there are fewer than two episodes.
    """
    if len(episodes) < 2:
        raise InputError(
            f"cloning needs two episodes or more, one of them to hold out, "
            f"got {len(episodes)}"
        )
    held_out = min(max(round(held_out_share * len(episodes)), 1), len(episodes) - 1)
    return episodes[:-held_out], episodes[-held_out:]


def join(episodes: Sequence[Demonstration]) -> Demonstration:
    """Put episodes one after another."""
    return Demonstration(
        np.concatenate([episode.observations for episode in episodes]),
        np.concatenate([episode.probabilities for episode in episodes]),
    )


def measure(policy: Policy, pairs: Demonstration) -> tuple[Fit, np.ndarray]:
    """Return how well a policy predicts actions, and its likeliest actions.

    The second has the shape ``(T,)``, int64.
    """
    log_probs = action_logits(policy, pairs.observations)
    predictions = log_probs.argmax(axis=1)
    losses = -(pairs.probabilities * log_probs).sum(axis=1)
    right = predictions == pairs.actions
    return Fit(float(losses.mean(dtype=np.float64)), float(right.mean())), predictions
