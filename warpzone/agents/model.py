"""The folder of an agent: its weights, and what it needs to play.

``policy.json`` also says what decides the weights' bytes: parameters, seed, versions,
ROM and instruction set. Equal runs on other machines and commits have to give equal
files, so what does not decide them stays out.
"""

import hashlib
import math
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium as gym
import numpy as np
import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from warpzone.agents.policy import (
    Policy,
    PolicyAgent,
    build_policy,
    set_weights,
    weights_of,
)
from warpzone.core.errors import InputError
from warpzone.core.files import one_line, read_bytes, write_bytes, write_json
from warpzone.core.params import NonNegative, Section
from warpzone.envs.registry import WORLDS, env_class
from warpzone.envs.replayable import ReplayableEnv

WEIGHTS = "policy.safetensors"
SPEC = "policy.json"

PINNED = (
    "ATEN_CPU_CAPABILITY",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
)
"""Variables that decide how sums are rounded, see `warpzone/__init__.py`."""

_PACKAGES = (
    "torch",
    "stable-baselines3",
    "numpy",
    "gymnasium",
    "nes-py",
    "stable-retro",
    "gym-super-mario-bros",
)


def _check_size(shape: tuple[int, ...]) -> tuple[int, ...]:
    if math.prod(shape) > 2**24:
        raise ValueError(f"{shape} is more than an observation holds")
    return shape


# What a screen has at most; a damaged number shall not fill the memory.
_Shape = Annotated[
    tuple[Annotated[int, Field(ge=1, le=4096)], ...],
    Field(min_length=1, max_length=3),
    AfterValidator(_check_size),
]


class _Spec(BaseModel):
    """What policy.json holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    env: str
    interface: dict[str, Any]
    """What the observations and actions mean, see `ReplayableEnv.interface`."""
    spaces: dict[str, tuple[Literal["uint8", "float32"], _Shape]]
    """Of each observation the type of its numbers and its shape."""
    actions: Annotated[int, Field(ge=1, le=1000)]
    observation: str
    """What the actor sees."""
    temperature: NonNegative
    idle_temperature: NonNegative | None
    architecture: dict[str, Any]
    origin: dict[str, Any]
    weights_sha256: str

    def build(self) -> Policy:
        """Return a new policy of this kind."""
        spaces = {}
        for key, (kind, shape) in self.spaces.items():
            low, high = (0, 255) if kind == "uint8" else (float("-inf"), float("inf"))
            spaces[key] = gym.spaces.Box(low, high, shape, np.dtype(kind).type)
        return build_policy(
            self.env, gym.spaces.Dict(spaces), self.actions, self.observation
        )


def describe_origin(
    stage: str, env: str, task: str, params: Section, seed: int
) -> dict[str, Any]:
    """Return how a policy was made: by what, with which values and which versions.

    It is the same on all machines that make the same bytes, so it may be part of an
    output.
    """
    return {
        "stage": stage,
        "task": task,
        "params": params.model_dump(mode="json"),
        "seed": seed,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "instruction_set": {name: os.environ.get(name, "") for name in PINNED},
        "versions": {package: version(package) for package in _PACKAGES},
        "rom_sha256": env_class(env).rom_sha256(),
    }


def save_agent(
    agent: PolicyAgent, folder: Path, env: ReplayableEnv, origin: dict[str, Any]
) -> None:
    """Write an agent: equal bytes for equal arguments.

    Args:
        agent: Its policy and how it plays.
        folder: Is created if need be.
        env: One like those that it was trained in; all keys that its networks see.
        origin: How it was made, for people to read.
    """
    tensors = weights_of(agent.policy)
    weights = save({name: t.cpu().contiguous() for name, t in tensors.items()})
    spaces = env.observation_space
    assert isinstance(spaces, gym.spaces.Dict)
    spec = _Spec(
        env=env.WORLD,
        interface=env.interface,
        spaces={k: (str(s.dtype), tuple(s.shape or ())) for k, s in spaces.items()},  # pyright: ignore[reportArgumentType]
        actions=len(env.codes),
        observation=agent.key,
        temperature=agent.temperature,
        idle_temperature=agent.idle_temperature,
        architecture=_architecture(agent.policy),
        origin=origin,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
    )
    # If only one of the two gets written, the checksum tells.
    write_bytes(folder / WEIGHTS, weights)
    write_json(folder / SPEC, spec.model_dump(mode="json"))


def load_agent(folder: Path, env: ReplayableEnv | None = None) -> PolicyAgent:
    """Read an agent, ready to play.

    Args:
        folder: Where it lies.
        env: Where it shall play, to check that it can; any if not given.

    Raises:
        InputError: In one line, if the folder is missing or damaged, or if the agent
            was made for other observations or actions.
    """
    spec = _read_spec(folder / SPEC)
    if env is not None:
        _check_interface(spec, folder, env)
    try:
        policy = spec.build()
    except (ArithmeticError, LookupError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{folder / SPEC}: no network reads the spaces {spec.spaces}: "
            f"{one_line(error)}: train it again"
        ) from error
    if spec.architecture != (needed := _architecture(policy)):
        raise InputError(
            f"{folder / SPEC}: the policy's architecture is {spec.architecture}, "
            f"this version builds {needed}: train it again"
        )
    tensors = _read_weights(folder / WEIGHTS, spec.weights_sha256)
    parameters = weights_of(policy)
    if tensors.keys() != parameters.keys():
        raise InputError(
            f"{folder / WEIGHTS}: lacks {sorted(parameters.keys() - tensors.keys())} "
            f"and has unknown {sorted(tensors.keys() - parameters.keys())}"
        )
    for name, parameter in parameters.items():
        found, wanted = _form(tensors[name]), _form(parameter)
        if found != wanted:
            raise InputError(
                f"{folder / WEIGHTS}: {name} is {found}, the network needs {wanted}"
            )
    set_weights(policy, tensors)
    return PolicyAgent(
        policy, spec.observation, spec.temperature, spec.idle_temperature
    )


def _check_interface(spec: _Spec, folder: Path, env: ReplayableEnv) -> None:
    ours = {"env": env.WORLD, **env.interface, "actions": len(env.codes)}
    theirs = {"env": spec.env, **spec.interface, "actions": spec.actions}
    for name in ours | theirs:
        if (found := theirs.get(name)) != (needed := ours.get(name)):
            raise InputError(
                f"{folder}: the policy was made for {name} {found!r}, params.yaml has "
                f"{needed!r}: train it again"
            )


def _architecture(policy: Policy) -> dict[str, Any]:
    """Return the layers of the actor and of the critic, by their classes."""
    return {
        name: [type(layer).__name__ for layer in extractor.network.layers]  # pyright: ignore[reportAttributeAccessIssue, reportGeneralTypeIssues]
        for name, extractor in (
            ("actor", policy.pi_features_extractor),
            ("critic", policy.vf_features_extractor),
        )
    }


def _read_spec(path: Path) -> _Spec:
    try:
        spec = _Spec.model_validate_json(read_bytes(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        where = where.encode("unicode_escape").decode() or "the file"
        raise InputError(
            f"{path}: {where}: {first['msg']}: it is damaged, or was made by an older "
            "version: train it again"
        ) from error
    if spec.env not in WORLDS or not {spec.observation, "state"} <= spec.spaces.keys():
        raise InputError(
            f"{path}: an agent of {spec.env!r} that sees {spec.observation!r} of "
            f"{sorted(spec.spaces)} is none of this version: train it again"
        )
    return spec


def _read_weights(path: Path, sha256: str) -> dict[str, torch.Tensor]:
    content = read_bytes(path)
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise InputError(
            f"{path}: is damaged or not the one that {SPEC} describes: its SHA-256 is "
            f"{found}, {SPEC} says {sha256}"
        )
    try:
        return load(content)
    except SafetensorError as error:
        raise InputError(
            f"{path}: is not in the safetensors format: {error}"
        ) from error


def _form(tensor: torch.Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)}"
