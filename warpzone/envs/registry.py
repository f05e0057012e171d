"""The worlds by name: an env is a file and a row here.

Nothing but this table leads to a world's modules, so a world that is not played is not
imported, and no stage depends on its code.
"""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple, Protocol

import gymnasium as gym

from warpzone.core.errors import InputError
from warpzone.core.params import EnvParams, NoiseParams, check_section
from warpzone.envs.replayable import ObsType, ReplayableEnv


class Demonstrator(Protocol):
    """Whoever plays well enough to be imitated: `decide` returns the next action.

    `reset` is called when the env has been reset. `emulated_frames` counts those that
    were needed so far, to plan and to play.
    """

    @property
    def emulated_frames(self) -> int: ...

    def reset(self) -> None: ...

    def decide(self) -> int: ...


class World(NamedTuple):
    """Where a world is: an id of `gymnasium.make`, and two paths, ``module:name``.

    What makes a `Demonstrator` is called with an env.
    """

    id: str
    env: str
    demonstrator: str


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
_NOISE = ("no_op_max", "sticky_probability", "sticky_unit")
_OURS = ("level", *_NOISE, "obs_type", "render_mode")


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
    if name not in WORLDS:
        raise InputError(f"no env {name!r}: there are {', '.join(WORLDS)}")
    return _load(WORLDS[name].env)


def make_demonstrator(name: str, env: ReplayableEnv) -> Demonstrator:
    """Return who demonstrates in an env of a world."""
    return _load(WORLDS[name].demonstrator)(env)


def modules_of(name: str) -> list[str]:
    """Return the modules that a world consists of."""
    world = WORLDS[name]
    return sorted({path.split(":")[0] for path in (world.env, world.demonstrator)})


def make_env(
    name: str,
    kwargs: Mapping[str, Any],
    level: str,
    noise: NoiseParams,
    obs_type: ObsType,
    render_mode: str | None = None,
) -> ReplayableEnv:
    """Return a new env of a world, with ``kwargs`` as params.yaml has them.

    Raises:
        InputError: If there is no such world, or an argument cannot be.
    """
    try:
        return env_class(name)(
            level,
            **kwargs,
            **noise.model_dump(include=set(_NOISE)),
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


def observed_keys(name: str, wanted: str) -> tuple[str, ...]:
    """Return what an env that an agent learns in has to show.

    What the agent sees, and the state, for the critic and the teacher.
    """
    return tuple(dict.fromkeys((agent_key(name, wanted), "state")))


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
            there_are = " to ".join(dict.fromkeys((levels[0], levels[-1])))
            raise InputError(
                f"params.yaml: envs.{name}.tasks.{task} has unknown levels {unknown}: "
                f"{name} has {there_are}"
            )
    for kwargs in (params.kwargs, params.kwargs | params.reference):
        make_env(name, kwargs, levels[0], noise, "state").close()


def _load(path: str) -> Any:
    module, name = path.split(":")
    return getattr(import_module(module), name)
