"""What goes wrong in a training, told in plain words and with numbers.

The limits are set so that the trainings of params.yaml stay below them, with room: what
is told is rare, and worth a look.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import log
from typing import Any

import numpy as np

from warpzone.core.params import RecipeParams
from warpzone.episodes.table import Score
from warpzone.training.callbacks import Evaluate, Periodic

WINDOW = 10
"""Rows of the learning curve that a check looks at; with fewer it says nothing."""


@dataclass(frozen=True)
class History:
    """What a training has come to, as far as checks look at it."""

    rows: Sequence[dict[str, Any]]
    """Of the learning curve, see `warpzone.training.callbacks.LearningCurve`."""
    scores: Sequence[Score]
    """Of all evaluations so far."""
    recipe: RecipeParams
    actions: int
    """How many there are."""

    def last(self, column: str) -> np.ndarray | None:
        """Return what the last rows have, shape ``(WINDOW,)``; None if one lacks it."""
        found = [row.get(column) for row in self.rows[-WINDOW:]]
        numbers = np.array([np.nan if one is None else one for one in found], float)
        is_whole = len(numbers) == WINDOW and not np.isnan(numbers).any()
        return numbers if is_whole else None


def entropy_collapse(history: History) -> str | None:
    """Choices are next to certain, below 1 % of an even one's entropy, and wrong."""
    losses, even = history.last("entropy_loss"), log(history.actions)
    rates = [row["success_rate"] for row in history.rows[-WINDOW:]]
    success = float(np.nan_to_num(np.array(rates, float)).mean())
    if losses is None or success >= 0.5 or -np.median(losses) >= 0.01 * even:
        return None
    return (
        f"entropy has collapsed: {-np.median(losses):.4f} nats, an even choice has "
        f"{even:.2f}, and {success:.0%} of the episodes succeed: raise ent_coef or "
        "lower learning_rate"
    )


def value_loss_spikes(history: History) -> str | None:
    """Three value losses of ten are more than ten times the median."""
    losses = history.last("value_loss")
    if losses is None:
        return None
    is_high = losses > 10 * np.median(losses)
    # At the start they fall from high.
    if is_high[is_high.argmin() :].sum() < 3:
        return None
    return (
        f"value_loss spikes: up to {losses.max():.3g}, while its median is "
        f"{np.median(losses):.3g}: lower learning_rate, vf_coef or max_grad_norm"
    )


def kl_over_target(history: History) -> str | None:
    """At least half of the updates went further than they are meant to."""
    target = history.recipe.algorithm_kwargs.get("target_kl")
    found = history.last("approx_kl")
    if target is None or found is None or (found > target).mean() < 0.5:
        return None
    return (
        f"approx_kl is over target_kl = {target:g} in {(found > target).sum()} of "
        f"{WINDOW} updates, {np.median(found):.3g} in the middle: lower learning_rate "
        "or n_epochs"
    )


def low_explained_variance(history: History) -> str | None:
    """The critic says hardly more of the returns than their mean does."""
    found = history.last("explained_variance")
    if found is None or np.median(found) >= 0.1:
        return None
    return (
        f"explained_variance is {np.median(found):.2f}: the critic predicts returns no "
        "better than their mean, so advantages are noise: raise vf_coef or n_epochs, "
        "or lower gamma"
    )


def q_overestimation(history: History) -> str | None:
    """The mean Q is more than any episode has returned."""
    found = history.last("q_value")
    returns = [row["episode_return"] for row in history.rows]
    known = np.array(returns, float)[~np.isnan(np.array(returns, float))]
    if found is None or not len(known):
        return None
    limit = max(known.max(), 0) + 0.1 * np.abs(known).max()
    if np.median(found) <= limit:
        return None
    return (
        f"Q is over-estimated: {np.median(found):.3g} on average, while episodes "
        f"return {known.max():.3g} at best: lower learning_rate or gamma, or update "
        "the target network less often"
    )


def falling_success(history: History) -> str | None:
    """The last evaluation is significantly (95 %) worse than the best one."""
    scores = history.scores
    if not scores or scores[-1].interval.high >= max(scores).interval.low:
        return None
    last, best = scores[-1], max(scores)
    return (
        f"success falls: {last.successes} of {last.episodes} in the last evaluation, "
        f"{best.successes} of {best.episodes} in the best one, which is kept: lower "
        "learning_rate or target_kl"
    )


CHECKS: dict[str, Callable[[History], str | None]] = {
    "entropy": entropy_collapse,
    "value_loss": value_loss_spikes,
    "kl": kl_over_target,
    "explained_variance": low_explained_variance,
    "q": q_overestimation,
    "success": falling_success,
}
"""By any names. Each returns what is wrong, the numbers and what to try, or None."""


@dataclass(eq=False)
class Health(Periodic):
    """Looks for trouble at each row of the curve and tells of each kind once.

    It ends the training then, if the recipe says so.
    """

    KEPT = ("last", "found")

    evaluate: Evaluate
    recipe: RecipeParams
    warn: Callable[[str], object]
    """Called with one line."""
    found: dict[str, str] = field(default_factory=dict, init=False)
    """By the name of the check."""
    reason: str | None = field(default=None, init=False)
    """``health``, once it has ended the training."""

    def on_due(self) -> None:
        space: Any = self.model.action_space
        rows, scores = self.evaluate.curve.rows, self.evaluate.scores
        history = History(rows, scores, self.recipe, int(space.n))
        for name, check in CHECKS.items():
            if name not in self.found and (said := check(history)):
                self.found[name] = f"after {rows[-1]['agent_steps']} agent steps {said}"
                self.warn(self.found[name])

    def _on_step(self) -> bool:
        if self.found and self.recipe.on_bad_health == "stop":
            self.reason = "health"
        return self.reason is None
