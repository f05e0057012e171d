"""The worlds by name: an env is a file and a row here.

Nothing but this table leads to a world's modules, so a world that is not played is not
imported, and no stage depends on its code.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import gymnasium as gym

from warpzone.core.errors import InputError
from warpzone.core.params import EnvParams, NoiseParams, check_section
from warpzone.envs.replayable import ObsType, ReplayableEnv


class Demonstrator(Protocol):
    """Whoever plays well enough to be imitated."""

    @property
    def emulated_frames(self) -> int:
        """Frames that it needed so far, to plan and to play."""
        ...

    def reset(self) -> None:
        """Begin an episode: the env has just been reset."""
        ...

    def decide(self) -> int:
        """Return the next action."""
        ...


@dataclass(frozen=True, slots=True)
class World:
    """Where a world is. Paths are ``module:name``."""

    id: str
    """Of `gymnasium.make`."""
    env: str
    demonstrator: str
    """Is called with an env, and is a `Demonstrator`."""


WORLDS = {
    "mario": World(
        "warpzone/Mario-v0",
        "warpzone.envs.mario.env:MarioEnv",
        "warpzone.envs.mario.planner:Planner",
    ),
    "cartpole": World(
        "warpzone/CartPole-v0",
        "warpzone.envs.cartpole:CartPoleEnv",
        "warpzone.envs.cartpole:Demonstrator",
    ),
}

# Arguments of envs that are decided elsewhere than in their section.
_OURS = ("level", "no_op_max", "sticky_probability", "obs_type", "render_mode")


def register() -> None:
    """Register all worlds with Gymnasium. Doing it again changes nothing."""
    for world in WORLDS.values():
        if world.id not in gym.registry:
            gym.register(world.id, entry_point=world.env)


def env_class(name: str) -> type[ReplayableEnv]:
    """Return the class of a world.

    Raises:
        InputError: If there is no such world.
    """
    return _load(_row(name).env)


def make_demonstrator(name: str, env: ReplayableEnv) -> Demonstrator:
    """Return who demonstrates in an env of a world."""
    return _load(_row(name).demonstrator)(env)


def modules_of(name: str) -> list[str]:
    """Return the modules that a world consists of."""
    row = _row(name)
    return sorted({path.split(":")[0] for path in (row.env, row.demonstrator)})


def make_env(
    name: str,
    kwargs: Mapping[str, Any],
    level: str,
    noise: NoiseParams,
    obs_type: ObsType,
    render_mode: str | None = None,
) -> ReplayableEnv:
    """Return a new env of a world.

    Args:
        name: The world's.
        kwargs: As params.yaml has them.
        level: Where to play.
        noise: What keeps the agent from replaying one fixed sequence.
        obs_type: What to observe.
        render_mode: As Gymnasium has it.

    Raises:
        InputError: If there is no such world, or an argument cannot be.
    """
    try:
        return env_class(name)(
            level,
            **kwargs,
            no_op_max=noise.no_op_max,
            sticky_probability=noise.sticky_probability,
            obs_type=obs_type,
            render_mode=render_mode,
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"params.yaml: envs.{name}: {error}") from error


def agent_key(name: str, wanted: str) -> str:
    """Return which key of the observations an agent sees.

    ``wanted``, or the state where the world has no pixels.
    """
    return wanted if wanted in env_class(name).OBS_TYPES else "state"


def check_env(name: str, params: EnvParams, noise: NoiseParams) -> None:
    """Check the section of an env, by making one as it says.

    Raises:
        InputError: In one line, with both halves of a misspelt key.
    """
    types = {
        key: parameter.annotation
        for key, parameter in inspect.signature(env_class(name)).parameters.items()
        if key not in _OURS
    }
    for part, given, default in (
        ("kwargs", params.kwargs, ...),
        ("reference", params.reference, None),
    ):
        fields = {key: (kind, default) for key, kind in types.items()}
        check_section(f"envs.{name}.{part}", fields, given, set(types))
    levels = env_class(name).LEVELS
    for task, wanted in params.tasks.items():
        if unknown := sorted(set(wanted) - set(levels)):
            one = len(levels) == 1
            there_are = levels[0] if one else f"{levels[0]} to {levels[-1]}"
            raise InputError(
                f"params.yaml: envs.{name}.tasks.{task} has unknown levels {unknown}: "
                f"{name} has {there_are}"
            )
    for kwargs in (params.kwargs, params.kwargs | params.reference):
        make_env(name, kwargs, levels[0], noise, "state").close()


def _row(name: str) -> World:
    if name not in WORLDS:
        raise InputError(f"no env {name!r}: there are {', '.join(WORLDS)}")
    return WORLDS[name]


def _load(path: str) -> Any:
    module, name = path.split(":")
    return getattr(import_module(module), name)
