"""How agents are called, and where what belongs to them lies.

The only place that makes these names; dvc.yaml writes the same ones, which
tests/pipeline/test_cells.py checks.
"""

from pathlib import Path

PARAMS = Path("params.yaml")
CODE = Path("data/code")
"""Holds what code each stage consists of, see `warpzone.core.fingerprints`."""

RECORDINGS = Path("data/recordings")
"""Holds people's recordings."""

DEMOS = "demos.jsonl"
"""The demonstrations, where a recipe's start needs them."""

UNTRAINED = ("random", "script")
"""Agents that have no model: random play, and a world's script."""

BASELINES = (*UNTRAINED, "bc")
"""Agents of every task beside the trained ones: those, and the clone."""

NOISE = "default"
"""The condition that most is said about, and that films show."""


def agent_name(recipe: str, seed: int) -> str:
    """Return the name of a trained agent, for example ``bc-ppo-1``."""
    return f"{recipe}-{seed}"


def cell(root: str, env: str, task: str, *names: str) -> Path:
    """Return where something of a task lies: ``ROOT/ENV/TASK/...``.

    The model of an agent is ``cell("models", env, task, agent)``.
    """
    return Path(root, env, task, *names)


def second_tries_of(env: str, task: str, agent: str) -> Path:
    """Return the table of where an agent's second tries in training began."""
    return cell("plots/train_rl", env, task, "second-tries", f"{agent}.csv")
