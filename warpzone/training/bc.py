"""Behavioural cloning: the policy learns to do what the demonstrations do."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from warpzone.agents.policy import MovingAverage, Policy, PolicyAgent, action_logits
from warpzone.core.params import CloningParams
from warpzone.envs.threads import Threads
from warpzone.episodes.recording import Recording, watch
from warpzone.training.checkpoint import like_parameters

# Of the moving average, per update.
_DECAY = 0.99


@dataclass(frozen=True)
class Transitions:
    """One or more episodes as the actor would have seen them."""

    observations: np.ndarray
    """Shape ``(T, ...)``; row t precedes action t."""
    probabilities: np.ndarray
    """Of each action, shape ``(T, actions)``, float32; 0 and 1 where somebody was
    watched."""

    def __len__(self) -> int:
        return len(self.observations)

    @property
    def actions(self) -> np.ndarray:
        """The likeliest ones, shape ``(T,)``, int64."""
        return self.probabilities.argmax(axis=1)


class Metrics(NamedTuple):
    """How well the actor did, as a mean over pairs or over all batches of a fit."""

    loss: float
    """Cross-entropy, in nats."""
    accuracy: float
    """Share of the actions that were the likeliest one."""


class Cloner:
    """Fits a policy's actor to demonstrations by cross-entropy. The critic stays.

    Frames are never shifted or flipped: where things are on the screen is when to jump.
    The agent's policy is trained in place, on the device that it is on. What plays is
    `average`, that of its weights over some hundred updates.
    """

    def __init__(
        self, agent: PolicyAgent, params: CloningParams, rng: np.random.Generator
    ) -> None:
        self._policy, self._key = agent.policy, agent.key
        self._params = params
        self._rng = rng
        self.average = MovingAverage(agent.policy, _DECAY)
        self._optimizer = torch.optim.AdamW(
            agent.policy.parameters(),
            params.learning_rate,
            weight_decay=params.weight_decay,
            fused=True,  # As `AsymmetricPolicy` has it.
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "policy": self._policy.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "rng": self._rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._policy.load_state_dict(state["policy"])
        self.average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        like_parameters(self._optimizer)
        self._rng.bit_generator.state = state["rng"]

    def fit(
        self,
        episodes: Sequence[Transitions],
        updates: int,
        anneal: bool = False,
        on_update: Callable[[], object] = lambda: None,
    ) -> Metrics:
        """Train on batches that are drawn with replacement, each step as often as any.

        ``anneal`` lets the learning rate fall to nothing, in a straight line.
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
            labels = np.stack([episode.probabilities[step] for episode, step in drawn])
            wanted = torch.from_numpy(labels).to(self._policy.device)
            tensor = torch.from_numpy(seen).to(self._policy.device)
            logits = self._policy.logits({self._key: tensor})
            loss = cross_entropy(logits, wanted)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            self.average.update_parameters(self._policy)
            loss_sum += loss.item()
            right += int((logits.argmax(dim=1) == wanted.argmax(dim=1)).sum())
            on_update()
        return Metrics(loss_sum / updates, right / (updates * size))


def watch_all(
    recordings: Sequence[Recording],
    kwargs: Mapping[str, Any],
    key: str,
    actions: int,
    source: str,
    on_episode: Callable[[], object] = lambda: None,
) -> list[Transitions]:
    """Replay recordings side by side, and return what was seen of one key.

    Args:
        recordings: What to play.
        kwargs: Of the env, as params.yaml has them.
        key: What to see.
        actions: How many the env has.
        source: The file that the recordings come from, for messages.
        on_episode: Called after each recording, on any thread.

    Raises:
        InputError: If a replay fails or does not fit the env.
    """
    certain = np.eye(actions, dtype=np.float32)
    episodes: dict[int, Transitions] = {}

    def watch_line(line: int) -> None:
        where = f"{source}, line {line + 1}"
        observations, chosen = watch(recordings[line], kwargs, (key,), where)
        episodes[line] = Transitions(observations[key], certain[chosen])
        on_episode()

    with closing(Threads()) as threads:
        threads.run(watch_line, range(len(recordings)))
    return [episodes[line] for line in sorted(episodes)]


def split_episodes(
    episodes: Sequence[Transitions], held_out_share: float
) -> tuple[Sequence[Transitions], Sequence[Transitions]]:
    """Divide whole episodes into those to train on and, the last ones, to hold out.

    There are two episodes or more. Neighbouring frames are near-copies, so a split by
    transition would leak.
    """
    held_out = min(max(round(held_out_share * len(episodes)), 1), len(episodes) - 1)
    return episodes[:-held_out], episodes[-held_out:]


def join(episodes: Sequence[Transitions]) -> Transitions:
    """Put episodes one after another."""
    return Transitions(
        np.concatenate([episode.observations for episode in episodes]),
        np.concatenate([episode.probabilities for episode in episodes]),
    )


def measure(policy: Policy, key: str, pairs: Transitions) -> tuple[Metrics, np.ndarray]:
    """Return how well a policy predicts actions, and its likeliest actions.

    The second has the shape ``(T,)``, int64.
    """
    log_probs = action_logits(policy, key, pairs.observations)
    predictions = log_probs.argmax(axis=1)
    losses = -(pairs.probabilities * log_probs).sum(axis=1)
    right = predictions == pairs.actions
    loss = float(losses.mean(dtype=np.float64))
    return Metrics(loss, float(right.mean())), predictions
