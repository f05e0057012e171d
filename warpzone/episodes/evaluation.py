"""Episodes played by an agent, as a table, and what the table says of the agent."""

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from warpzone.core.errors import InputError
from warpzone.core.params import GameParams, NoiseParams, RunsParams
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.mario.observation import ObsType
from warpzone.envs.mario.state import is_cleared, is_dead, is_in_pit, read_time
from warpzone.envs.threads import Threads
from warpzone.episodes.agent import Agent, action_rng
from warpzone.episodes.recording import Recording
from warpzone.episodes.statistics import (
    bootstrap_difference,
    bootstrap_mean,
    newcombe,
    wilson,
)

Cause = Literal["clear", "pit", "enemy", "clock", "stuck", "time_limit"]
"""What ended an episode: the flag or the axe; death below the screen, by anything that
hurts, or because the clock ran out; the stuck limit or the time limit."""

CAUSES: tuple[Cause, ...] = get_args(Cause)
DEATHS: tuple[Cause, ...] = ("pit", "enemy", "clock")

COLUMNS: dict[Hashable, Any] = {
    "agent": "str",
    "level": "str",
    "seed": "int64",
    "no_op_max": "int64",
    "sticky_probability": "float64",
    "cleared": "bool",
    "x_pos_max": "int64",
    "agent_steps": "int64",
    "emulator_frames": "int64",
    "score": "int64",
    "coins": "int64",
    "time_left": "int64",
    "reward": "float64",
    "death_x": "Int64",
    "cause": "str",
}
"""Columns of an episode table, one row an episode, and their types.

``x_pos_max`` and ``death_x`` are in pixels, the latter from the left edge of the area
that Mario died in, and empty when he did not die. ``emulator_frames`` are those that
the player controls, idle frames at the start included. ``time_left`` is what the game's
clock shows, in game seconds.
"""


def agent_names(runs: RunsParams) -> list[str]:
    """All agents that the pipeline evaluates, the weakest start first."""
    return ["random", "bc", *runs.names]


def play_episodes(
    agent: Agent,
    game: GameParams,
    noise: NoiseParams,
    seeds: Sequence[int],
    envs: int,
    progress: Callable[[], object] | None = None,
    obs_type: ObsType = "pictures",
    before_step: Callable[[int, MarioEnv], object] | None = None,
) -> tuple[pd.DataFrame, list[Recording]]:
    """Play one episode a seed.

    An episode depends on its seed only, which fixes its noise and, through a generator
    of its own, the actions that are drawn. Threads and ``envs`` change nothing.

    Args:
        agent: Who decides.
        game: The learning problem.
        noise: What the seeds are drawn for.
        seeds: One an episode.
        envs: Episodes played side by side.
        progress: Called after each episode.
        obs_type: What the agent sees, as `MarioEnv` has it.
        before_step: Called before each agent step, on any thread, with the place of the
            episode's seed and the environment.

    Returns:
        The table, with all of `COLUMNS` but the agent's name, and the recordings. Both
        follow the seeds.
    """
    count = min(envs, len(seeds))
    rngs: dict[int, np.random.Generator] = {}
    waiting = deque(range(len(seeds)))
    playing: dict[int, int] = {}
    episodes: dict[int, tuple[dict[str, Any], Recording]] = {}
    consoles: dict[int, MarioEnv] = {}
    actions: dict[int, int] = {}
    ended: dict[int, dict[str, Any]] = {}

    with ExitStack() as stack, closing(Threads()) as threads:

        def make(slot: int) -> None:
            env = MarioEnv(game, noise, obs_type=obs_type)
            consoles[slot] = stack.enter_context(closing(env))

        def begin(slot: int) -> None:
            seed = seeds[playing[slot]]
            observations[slot], _ = consoles[slot].reset(seed=seed)
            rngs[slot] = action_rng(seed)

        def step(slot: int) -> None:
            if before_step is not None:
                before_step(playing[slot], consoles[slot])
            step_result = consoles[slot].step(actions[slot])
            observations[slot], _, terminated, truncated, info = step_result
            if terminated or truncated:
                ended[slot] = info

        threads.run(make, range(count))
        shape = consoles[0].observation_space.shape or ()
        observations = np.empty((count, *shape), np.uint8)
        while waiting or playing:
            free = [slot for slot in range(count) if slot not in playing]
            begun = free[: len(waiting)]
            playing |= {slot: waiting.popleft() for slot in begun}
            threads.run(begin, begun)
            slots = sorted(playing)
            chosen = agent.act(observations[slots], [rngs[slot] for slot in slots])
            actions |= zip(slots, chosen, strict=True)
            threads.run(step, slots)
            for slot in sorted(ended):
                index = playing.pop(slot)
                env, seed = consoles[slot], seeds[index]
                recording = Recording.of_episode(env, seed)
                episodes[index] = (_row(env, seed, ended.pop(slot)), recording)
                if progress is not None:
                    progress()

    rows, recordings = zip(*(episodes[i] for i in range(len(seeds))), strict=True)
    return pd.DataFrame(rows).astype({"death_x": "Int64"}), list(recordings)


def cause_of_end(env: MarioEnv) -> Cause:
    """Say what ended the episode that an environment has just played."""
    ram = env.play.ram
    if is_cleared(ram):
        return "clear"
    if is_in_pit(ram):
        return "pit"
    if is_dead(ram):
        return "clock" if read_time(ram) == 0 else "enemy"
    return "stuck" if env.is_stuck else "time_limit"


def _row(env: MarioEnv, seed: int, info: dict[str, Any]) -> dict[str, Any]:
    cause = cause_of_end(env)
    return {
        "level": env.game.level,
        "seed": seed,
        "no_op_max": env.noise.no_op_max,
        "sticky_probability": env.noise.sticky_probability,
        "cleared": cause == "clear",
        "x_pos_max": info["x_pos_max"],
        "agent_steps": info["steps"],
        "emulator_frames": len(env.frame_buttons),
        "score": info["score"],
        "coins": info["coins"],
        "time_left": info["time"],
        "reward": info["reward"],
        "death_x": info["x_pos"] if cause in DEATHS else None,
        "cause": cause,
    }


def read_episodes(path: Path, agent: str) -> pd.DataFrame:
    """Read the episode table of an agent.

    Raises:
        InputError: With the file and the reason.
    """
    try:
        table = pd.read_csv(path, dtype=COLUMNS)
    except (OSError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: is not an episode table: {reason}") from error
    if list(table) != list(COLUMNS):
        raise InputError(f"{path}: has the columns {list(table)}, not {list(COLUMNS)}")
    if len(table) == 0:
        raise InputError(f"{path}: holds no episode")
    for column, is_wrong in (
        ("agent", table["agent"] != agent),
        ("cause", ~table["cause"].isin(CAUSES)),
        ("cleared", table["cleared"] != (table["cause"] == "clear")),
        ("death_x", table["death_x"].notna() != table["cause"].isin(DEATHS)),
        *((name, table[name].isna()) for name in COLUMNS if name != "death_x"),
    ):
        if True in (wrong := is_wrong.tolist()):
            row = wrong.index(True)
            raise InputError(
                f"{path}, line {row + 2}: {column} cannot be {table[column][row]!r} "
                f"in an episode of {agent} that ended by {table['cause'][row]!r}"
            )
    return table


def check_comparable(tables: dict[str, pd.DataFrame]) -> None:
    """Check that all agents played the same episodes: level, seeds and noise.

    Args:
        tables: Episode tables by agent.

    Raises:
        InputError: If two of them differ.
    """
    (first, reference), *others = tables.items()
    for agent, table in others:
        for column in ("level", "seed", "no_op_max", "sticky_probability"):
            ours, theirs = table[column].tolist(), reference[column].tolist()
            if ours != theirs:
                raise InputError(
                    f"the episodes of {agent} and {first} differ in {column}: "
                    f"{_brief(ours)} and {_brief(theirs)}; evaluate both again"
                )


def summarise(
    table: pd.DataFrame, samples: int, rng: np.random.Generator
) -> dict[str, float | int]:
    """Reduce an episode table to metrics, with 95 % intervals ``_low`` to ``_high``.

    The interval of ``clear_rate`` is Wilson's. That of the mean distance is a
    bootstrap's: where one agent dies in a few places, distances lie in a few clumps,
    and no formula for the bell curve fits.

    Args:
        table: Episodes of one agent.
        samples: Of the bootstrap.
        rng: Of the bootstrap.
    """
    episodes = len(table)
    causes = table["cause"].tolist()
    clears = causes.count("clear")
    clear_rate = wilson(clears, episodes)
    x_pos_max = table["x_pos_max"].to_numpy()
    distance = bootstrap_mean(x_pos_max, samples, rng)
    return {
        "episodes": episodes,
        "clear_rate": _rounded(clears / episodes),
        "clear_rate_low": _rounded(clear_rate.low),
        "clear_rate_high": _rounded(clear_rate.high),
        "x_pos_max_mean": _rounded(np.mean(x_pos_max)),
        "x_pos_max_mean_low": _rounded(distance.low),
        "x_pos_max_mean_high": _rounded(distance.high),
        "x_pos_max_median": _rounded(np.median(x_pos_max)),
        "agent_steps_mean": _rounded(np.mean(table["agent_steps"].to_numpy())),
        "reward_mean": _rounded(np.mean(table["reward"].to_numpy())),
        **{f"ended_by_{cause}": causes.count(cause) for cause in CAUSES},
    }


def contrast(
    a: pd.DataFrame, b: pd.DataFrame, samples: int, rng: np.random.Generator
) -> dict[str, float]:
    """Compare two agents: a minus b, with 95 % intervals ``_low`` to ``_high``.

    Clear rates by Newcombe's interval, distances by a bootstrap. The seeds are the
    same, but two agents part ways after the first decisions, so the episodes count as
    independent.

    Args:
        a: Episodes of one agent.
        b: Episodes of the other.
        samples: Of the bootstrap.
        rng: Of the bootstrap.
    """
    clears_a = a["cleared"].tolist().count(True)
    clears_b = b["cleared"].tolist().count(True)
    clear_rate = newcombe(clears_a, len(a), clears_b, len(b))
    x_a, x_b = a["x_pos_max"].to_numpy(), b["x_pos_max"].to_numpy()
    distance = bootstrap_difference(x_a, x_b, samples, rng)
    return {
        "clear_rate": _rounded(clears_a / len(a) - clears_b / len(b)),
        "clear_rate_low": _rounded(clear_rate.low),
        "clear_rate_high": _rounded(clear_rate.high),
        "x_pos_max_mean": _rounded(x_a.mean() - x_b.mean()),
        "x_pos_max_mean_low": _rounded(distance.low),
        "x_pos_max_mean_high": _rounded(distance.high),
    }


def distance_survival(table: pd.DataFrame, step: int) -> pd.DataFrame:
    """Share of the episodes that got at least so far.

    Args:
        table: Episodes of one agent.
        step: Pixels between two rows of the result.

    Returns:
        Columns ``x_pos`` (0, ``step``, ... up to the first that nobody reached) and
        ``share``.
    """
    furthest = table["x_pos_max"].to_numpy()
    x_pos = np.arange(0, furthest.max() + step + 1, step)
    share = (furthest[:, None] >= x_pos).mean(axis=0)
    return pd.DataFrame({"x_pos": x_pos, "share": share})


def _rounded(value: float | np.floating) -> float:
    return round(float(value), 4)


def _brief(values: list[Any]) -> str:
    """Name a column by its size and its first value."""
    return f"{len(values)} episodes from {values[0]!r}"
