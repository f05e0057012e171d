"""The table of episodes, one row each."""

from collections.abc import Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from warpzone.core.errors import InputError
from warpzone.core.files import one_line, read_text
from warpzone.envs.replayable import ReplayableEnv
from warpzone.episodes.statistics import Interval, wilson

COLUMNS: dict[Hashable, Any] = {
    "agent": "str",
    "task": "str",
    "noise": "str",
    "level": "str",
    "seed": "int64",
    "no_op_max": "int64",
    "sticky_probability": "float64",
    "sticky_unit": "str",
    "success": "bool",
    "progress": "float64",
    "agent_steps": "int64",
    "emulator_frames": "int64",
    "log_sha256": "str",
    "episode_return": "float64",
    "cause": "str",
    "place": "Int64",
}
"""Columns of an episode table and their types; those of the world follow.

``progress`` is in the world's unit. ``emulator_frames`` are those that the player
controls, idle frames at the start included. ``log_sha256`` is of what was held in each
of them: on one level, episodes with the same one are the same episode. ``cause`` is
what ended the episode. ``place`` is where the agent failed, in the unit of progress:
for Mario the pixels from the left edge of the area that he died in; empty where the
world has no places, or the agent did not fail.
"""


# What has to be equal for agents to be compared.
_PLAYED = ("level", "seed", "no_op_max", "sticky_probability", "sticky_unit")


@dataclass(frozen=True, order=True)
class Score:
    """How well an agent plays. The higher success rate wins, then the longer way."""

    success_rate: float
    progress: float
    """Mean over the episodes, in the world's unit."""
    episodes: int = field(compare=False)
    agent_steps: int = field(default=0, compare=False)
    emulator_frames: int = field(default=0, compare=False)

    @classmethod
    def of(cls, table: pd.DataFrame) -> Self:
        """Reduce an episode table."""
        rate, progress = table[["success", "progress"]].mean()
        steps, frames = table[["agent_steps", "emulator_frames"]].sum()
        return cls(float(rate), float(progress), len(table), int(steps), int(frames))

    @property
    def successes(self) -> int:
        """Episodes that succeeded."""
        return round(self.success_rate * self.episodes)

    @property
    def interval(self) -> Interval:
        """Wilson's 95 % interval of the success rate."""
        return wilson(self.successes, self.episodes)


def columns_of(world: type[ReplayableEnv]) -> dict[Hashable, Any]:
    """Return the columns of a world's episode tables, and their types."""
    return COLUMNS | dict(world.COLUMNS)


def causes_of(world: type[ReplayableEnv]) -> tuple[str, ...]:
    """Return what can end an episode in a world."""
    return (*world.SUCCESSES, *world.FAILURES, "stuck", "time_limit")


def row_of(env: ReplayableEnv, seed: int, info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of the episode that has just ended in an env.

    It lacks ``agent``, ``task`` and ``noise``.
    """
    return {
        "level": env.level,
        "seed": seed,
        "no_op_max": env.no_op_max,
        "sticky_probability": env.sticky_probability,
        "sticky_unit": env.sticky_unit,
        "success": info["is_success"],
        "progress": float(info["progress"]),
        "agent_steps": info["steps"],
        "emulator_frames": len(env.frame_actions),
        "log_sha256": sha256(env.frame_actions).hexdigest(),
        "episode_return": info["reward"],
        "cause": info["cause"],
        "place": info["place"],
        **{name: info[name] for name in env.COLUMNS},
    }


def read_episodes(
    path: Path, world: type[ReplayableEnv], **expected: str
) -> pd.DataFrame:
    """Read the episode table of an agent in a world.

    ``expected`` is what ``agent``, ``task`` and ``noise`` have to be.

    Raises:
        InputError: With the file, the line and the reason.
    """
    columns, text = columns_of(world), read_text(path)
    if not text.endswith("\n"):
        line = text.count("\n") + 1
        raise InputError(
            f"{path}, line {line}: the file ends within it: evaluate again"
        )
    try:
        table = pd.read_csv(StringIO(text), dtype=columns, skip_blank_lines=False)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{path}, line {_first_wrong_line(text, columns)}: is not an episode: "
            f"{one_line(error)}"
        ) from error
    if list(table) != list(columns):
        raise InputError(
            f"{path}, line 1: has the columns {list(table)}, not {list(columns)}"
        )
    if len(table) == 0:
        raise InputError(f"{path}, line 1: no episode follows")
    causes, places = table["cause"], table["place"].notna()
    wrong = {
        name: table[name].isna() | table[name].isin([np.inf, -np.inf])
        for name in columns
        if name != "place"
    }
    wrong |= {name: table[name] != value for name, value in expected.items()}
    wrong["seed"] = table["seed"].duplicated()
    wrong["cause"] = ~causes.isin(causes_of(world))
    wrong["success"] = table["success"] != causes.isin(world.SUCCESSES)
    # All failures have a place, or, in a world without places, none.
    wrong["place"] = (causes.isin(world.FAILURES) != places) & places.to_numpy().any()
    for column, is_wrong in wrong.items():
        rows = is_wrong.to_numpy().nonzero()[0]
        if len(rows) > 0:
            row = int(rows[0])
            again = " again" if column == "seed" else ""
            raise InputError(
                f"{path}, line {row + 2}: {column} cannot be "
                f"{table[column].tolist()[row]!r}{again} in an episode of "
                f"{' '.join(expected.values())} that ended by {causes[row]!r}"
            )
    return table


def places_of(table: pd.DataFrame) -> np.ndarray:
    """Return the place of each failure; where there is none, the progress."""
    places = table["place"].to_numpy(float, na_value=np.nan)
    return np.where(np.isnan(places), table["progress"], places)


def distinct(table: pd.DataFrame) -> pd.DataFrame:
    """Return each episode once, where some are the same to the last button."""
    return table.drop_duplicates(["level", "log_sha256"])


def _first_wrong_line(text: str, columns: dict[Hashable, Any]) -> int:
    """Return the number of the first line that pandas cannot read."""
    line = 1
    with suppress(ValueError, OverflowError):
        rows = pd.read_csv(
            StringIO(text), dtype=columns, skip_blank_lines=False, chunksize=1
        )
        line = 2
        for _ in rows:
            line += 1
    return line


def check_comparable(tables: Mapping[str, pd.DataFrame]) -> None:
    """Check that all agents, by name, played the same levels, seeds and noise.

    Raises:
        InputError: If two of them differ.
    """
    (first, reference), *others = tables.items()
    for agent, table in others:
        for column in _PLAYED:
            ours, theirs = table[column].tolist(), reference[column].tolist()
            if ours != theirs:
                raise InputError(
                    f"the episodes of {agent} and {first} differ in {column}: "
                    f"{len(ours)} episodes from {ours[0]!r} and {len(theirs)} episodes "
                    f"from {theirs[0]!r}; evaluate both again"
                )
