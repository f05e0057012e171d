"""What several test modules share."""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from warpzone.core.params import NoiseParams, Params, parse_params
from warpzone.core.yaml import read_yaml
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.nes.buttons import DOWN, NO_BUTTONS, RIGHT, A
from warpzone.envs.registry import env_class
from warpzone.episodes.agent import Agent, Observations
from warpzone.episodes.table import columns_of

ROOT = Path(__file__).parents[1]
PARAMS = read_yaml(ROOT / "params.yaml")

MARIO: dict[str, Any] = {
    "emulator": "nes-py",
    "height": 84,
    "width": 84,
    "reward": {"death": -1.0},
    "no_op_max": 0,
    "sticky_probability": 0.0,
}
"""1-1 without noise, on the reference emulator."""


class Balance:
    """Pushes a cart to where its pole falls: the pole's angle and speed decide."""

    keys, memory_size = ("state",), 0

    def act(
        self,
        observations: Observations,
        memories: np.ndarray,
        rngs: Sequence[np.random.Generator],
    ) -> tuple[np.ndarray, np.ndarray]:
        _, _, angle, turn = observations["state"].T
        return (angle + 0.5 * turn > 0).astype(np.int64), memories


@pytest.fixture
def balance() -> Agent:
    """Who balances CartPole's pole without noise."""
    return Balance()


@pytest.fixture
def mario() -> Callable[..., MarioEnv]:
    """Make a `MarioEnv`, as `MARIO` has it but for the given arguments."""

    def mario(level: str = "1-1", **changes: Any) -> MarioEnv:
        return MarioEnv(level, **MARIO | changes)

    return mario


@pytest.fixture(scope="session")
def noise() -> NoiseParams:
    return NoiseParams(no_op_max=30, sticky_probability=0.25, sticky_unit="frame")


@pytest.fixture(scope="session")
def no_noise() -> NoiseParams:
    return NoiseParams(no_op_max=0, sticky_probability=0.0, sticky_unit="frame")


@pytest.fixture(scope="session")
def into_the_bonus_room() -> bytes:
    """Buttons that lead from the start of 1-1 into its first open pipe.

    Mario jumps onto the pipe at x = 918; the last frame takes him into the room below.
    """
    jumps = ((1, 28, 16), (1, 28, 20), (1, 28, 20), (1, 20, 0), (1, 28, 5))
    jumps += ((60, 28, 10), (60, 28, 20), (10, 28, 5), (80, 28, 5))
    held = b""
    for run, jump, fall in jumps:
        held += bytes([RIGHT]) * run + bytes([RIGHT | A]) * jump + bytes([RIGHT]) * fall
    return held + bytes([NO_BUTTONS]) * 20 + bytes([DOWN]) * 2


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path | None]]:
    """Mount a disk in memory, with options; None where this machine does not let us."""
    with ExitStack() as stack:

        def mount(options: str) -> Path | None:
            place = tmp_path / "disk"
            place.mkdir()
            command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
            try:
                if subprocess.run(command, capture_output=True).returncode != 0:
                    return None
            except FileNotFoundError:
                return None
            stack.callback(subprocess.run, ["umount", str(place)], check=True)
            return place

        yield mount


def default_document() -> dict[str, Any]:
    """Return params.yaml with the values of the axes that tests rely on.

    Tests hold with any valid params.yaml: what they need of it is set here.
    """
    document = deepcopy(PARAMS)
    document |= {"seed": 1, "device": "cpu", "torch_threads": 2, "env": "mario"}
    document["run"] = {"tasks": ["1-1"], "recipes": ["bc-ppo"], "seeds": [1]}
    document["record_video"] |= {"agents": ["bc-ppo-1"], "episodes": ["median", "best"]}
    return document


@pytest.fixture
def document() -> dict[str, Any]:
    """A valid params.yaml, to be changed."""
    return default_document()


@pytest.fixture
def small_workspace(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Params:
    """Make a folder with nothing but a small params.yaml the current one."""
    document["run"]["recipes"] = ["bc-ppo", "ppo"]
    document["envs"]["mario"]["kwargs"] |= {"height": 84, "width": 84, "time_limit": 30}
    condition = {"no_op_max": 30, "sticky_probability": 0.25, "sticky_unit": "frame"}
    condition |= {"reference": False, "temperature": None}
    condition |= {"episodes": 3}
    document["evaluate"] = {
        "n_envs": 2,
        "noises": {
            "default": condition | {"reference": True},
            "none": condition | {"no_op_max": 0},
        },
    }
    document["compare"] = {"bootstrap_samples": 100}
    params = parse_params(document, "params.yaml")
    # JSON is YAML.
    (tmp_path / "params.yaml").write_text(params.model_dump_json())
    monkeypatch.chdir(tmp_path)
    return params


type Episodes = Callable[[str, Sequence[int]], pd.DataFrame]


@pytest.fixture
def episodes() -> Episodes:
    """Make a table with one row a letter: c(lear), p(it), e(nemy) or s(tuck)."""

    def episodes(causes: str, progress: Sequence[int]) -> pd.DataFrame:
        words = {"c": "clear", "p": "pit", "e": "enemy", "s": "stuck"}
        columns = columns_of(env_class("mario"))
        rows = [
            {
                **dict.fromkeys(columns, 0),
                "agent": "random",
                "task": "1-1",
                "noise": "default",
                "level": "1-1",
                "seed": seed,
                "success": letter == "c",
                "progress": x,
                "agent_steps": 10 * (seed + 1),
                "emulator_frames": 40 * (seed + 1),
                "log_sha256": f"{seed:064x}",
                "episode_return": 0.5 * x,
                "cause": words[letter],
                "place": x if letter in "pe" else None,
            }
            for seed, (letter, x) in enumerate(zip(causes, progress, strict=True))
        ]
        return pd.DataFrame(rows).astype(columns)

    return episodes


@pytest.fixture
def commit() -> Callable[[str], None]:
    """Commit and tag all that is in the repository of the current folder."""
    who = ("-c", "user.name=test", "-c", "user.email=test@example.com")

    def commit(name: str) -> None:
        for command in (("add", "-A"), ("commit", "-qm", name), ("tag", name)):
            subprocess.run(["git", *who, *command], check=True, capture_output=True)

    return commit
