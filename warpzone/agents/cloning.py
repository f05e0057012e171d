"""Behavioural cloning: the policy learns to press what the demonstrations press."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy

from warpzone.agents.policy import Policy, action_logits, to_tensor
from warpzone.demos.recording import Recording, watch
from warpzone.errors import InputError
from warpzone.params import GameParams, PretrainBCParams


@dataclass(frozen=True)
class Demonstration:
    """One or more episodes as the policy would have seen them."""

    observations: np.ndarray
    """Shape ``(T, frame_stack, height, width)``, uint8; row t precedes action t."""
    actions: np.ndarray
    """Shape ``(T,)``, int64, indices into the action set."""

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True)
class Cloning:
    """What came of it."""

    epochs: pd.DataFrame
    """One row an epoch: epoch (from 1), train_loss, held_out_loss, train_accuracy,
    held_out_accuracy. The training columns are averages over the epoch, while the
    policy was changing."""
    best_epoch: int
    """The one with the least held-out loss, whose weights the policy has."""
    predictions: np.ndarray
    """The likeliest action for each held-out pair, shape ``(T,)``, int64."""


def watch_all(
    recordings: Sequence[Recording],
    game: GameParams,
    source: str,
    on_episode: Callable[[], object] = lambda: None,
) -> list[Demonstration]:
    """Replay recordings side by side, each one checked, and see what was seen.

    Args:
        recordings: What to play.
        game: How agents see the game and what they may press.
        source: The file that the recordings come from, for messages.
        on_episode: Called after each recording.

    Raises:
        InputError: If a replay fails or does not fit the game.
    """

    def watch_line(line: int) -> Demonstration:
        return Demonstration(
            *watch(recordings[line], game, f"{source}, line {line + 1}")
        )

    demonstrations = []
    with ThreadPoolExecutor(os.process_cpu_count()) as pool:
        for demonstration in pool.map(watch_line, range(len(recordings))):
            demonstrations.append(demonstration)
            on_episode()
    return demonstrations


def split_episodes(
    episodes: Sequence[Demonstration], held_out_share: float, rng: np.random.Generator
) -> tuple[list[Demonstration], list[Demonstration]]:
    """Divide whole episodes into those to train on and those to hold out.

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
    shuffled = [episodes[index] for index in rng.permutation(len(episodes))]
    return shuffled[held_out:], shuffled[:held_out]


def join(episodes: Sequence[Demonstration]) -> Demonstration:
    """Put episodes one after another."""
    return Demonstration(
        np.concatenate([episode.observations for episode in episodes]),
        np.concatenate([episode.actions for episode in episodes]),
    )


def clone(
    policy: Policy,
    train: Demonstration,
    held_out: Demonstration,
    params: PretrainBCParams,
    rng: np.random.Generator,
    on_epoch: Callable[[], object] = lambda: None,
) -> Cloning:
    """Fit the policy's actor to demonstrations by cross-entropy. The critic stays.

    The pictures are never shifted or flipped: where things are on the screen is when
    to jump.

    Args:
        policy: Is trained in place, on the device that it is on.
        train: Pairs to learn from.
        held_out: Pairs of other episodes, to choose the epoch by.
        params: How to train.
        rng: Shuffles the pairs.
        on_epoch: Called after each epoch.
    """
    optimizer = torch.optim.AdamW(
        policy.parameters(), params.learning_rate, weight_decay=params.weight_decay
    )
    observations = to_tensor(train.observations, policy.device)
    actions = torch.from_numpy(train.actions).to(policy.device)
    rows = []
    best_loss, best_epoch, best_weights = np.inf, 0, policy.state_dict()
    for epoch in range(1, params.epochs + 1):
        loss_sum, right = 0.0, 0
        order = torch.from_numpy(rng.permutation(len(train))).to(policy.device)
        for batch in order.split(params.batch_size):
            logits = policy.get_distribution(observations[batch]).distribution.logits  # pyright: ignore[reportAttributeAccessIssue]
            loss = cross_entropy(logits, actions[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(batch)
            right += int((logits.argmax(dim=1) == actions[batch]).sum())
        held_out_loss, held_out_accuracy = _measure(policy, held_out)
        rows.append(
            {
                "epoch": epoch,
                "train_loss": loss_sum / len(train),
                "held_out_loss": held_out_loss,
                "train_accuracy": right / len(train),
                "held_out_accuracy": held_out_accuracy,
            }
        )
        if held_out_loss < best_loss:
            best_loss, best_epoch = held_out_loss, epoch
            best_weights = deepcopy(policy.state_dict())
        on_epoch()
    policy.load_state_dict(best_weights)
    predictions = action_logits(policy, held_out.observations).argmax(axis=1)
    return Cloning(pd.DataFrame(rows), best_epoch, predictions)


def _measure(policy: Policy, pairs: Demonstration) -> tuple[float, float]:
    """Return the mean cross-entropy in nats and the share of actions predicted."""
    log_probs = action_logits(policy, pairs.observations)
    chosen = log_probs[np.arange(len(pairs)), pairs.actions]
    accuracy = (log_probs.argmax(axis=1) == pairs.actions).mean()
    return -float(chosen.mean(dtype=np.float64)), float(accuracy)
