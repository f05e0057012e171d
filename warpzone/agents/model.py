"""The folder of an agent: its weights, and what it needs to play.

``policy.json`` also says what decides the weights' bytes: parameters, seed, versions,
ROM and instruction set. Equal runs on other machines and commits have to give equal
files, so what does not decide them stays out.
"""

import hashlib
import math
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from reprlib import repr as shorten
from typing import Annotated, Any, Literal, Self

import gymnasium as gym
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load, save

from warpzone import AVX2_PINS
from warpzone.agents.networks import POLICIES, AsymmetricPolicy
from warpzone.agents.policy import (
    Policy,
    PolicyAgent,
    build_policy,
    set_weights,
    weights_of,
)
from warpzone.core.errors import InputError
from warpzone.core.files import read_bytes, write_bytes, write_json
from warpzone.core.params import NonNegative, Section
from warpzone.envs.registry import WORLDS, env_class
from warpzone.envs.replayable import ReplayableEnv

WEIGHTS = "policy.safetensors"
SPEC = "policy.json"

_PACKAGES = (
    "torch",
    "stable-baselines3",
    "numpy",
    "gymnasium",
    "nes-py",
    "stable-retro",
    "gym-super-mario-bros",
)


# What a screen has at most; a damaged number shall not fill the memory.
_Length = Annotated[int, Field(ge=1, le=4096)]
_Shape = Annotated[tuple[_Length, ...], Field(min_length=1, max_length=3)]


class _Spec(BaseModel):
    """What policy.json holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    env: Literal[*WORLDS]  # pyright: ignore[reportInvalidTypeForm]
    interface: dict[str, Any]
    """What the observations and actions mean, see `ReplayableEnv.interface`."""
    spaces: dict[str, tuple[Literal["uint8", "float32"], _Shape]]
    """Of each observation the type of its numbers and its shape."""
    actions: Annotated[int, Field(ge=1, le=1000)]
    observation: str
    """What the actor sees."""
    temperature: NonNegative
    idle_temperature: NonNegative | None
    kind: Literal[*POLICIES] = AsymmetricPolicy.KIND  # pyright: ignore[reportInvalidTypeForm]
    """Of the policy. Folders of actors and critics do not say it."""
    architecture: dict[str, Any]
    origin: dict[str, Any]
    weights_sha256: str

    @model_validator(mode="after")
    def _fits_the_memory(self) -> Self:
        if sum(math.prod(shape) for _, shape in self.spaces.values()) > 2**24:
            raise ValueError("spaces are more than an observation holds")
        return self

    def build(self) -> Policy:
        """Return a new policy of this kind."""
        spaces = {}
        for key, (kind, shape) in self.spaces.items():
            low, high = (0, 255) if kind == "uint8" else (-np.inf, np.inf)
            spaces[key] = gym.spaces.Box(low, high, shape, np.dtype(kind).type)
        return build_policy(
            self.env,
            gym.spaces.Dict(spaces),
            self.actions,
            self.observation,
            self.kind,
        )


def describe_origin(
    stage: str,
    env: str,
    task: str,
    params: Section,
    seed: int,
    packages: Sequence[str] = (),
) -> dict[str, Any]:
    """Return how a policy was made: by what, with which values and which versions.

    It is the same on all machines that make the same bytes, so it may be part of an
    output. ``packages`` are those that decided the bytes beside the usual ones.
    """
    return {
        "stage": stage,
        "task": task,
        "params": params.model_dump(mode="json"),
        "seed": seed,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "instruction_set": {name: os.environ.get(name, "") for name in AVX2_PINS},
        "versions": {package: version(package) for package in (*_PACKAGES, *packages)},
        "rom_sha256": env_class(env).rom_sha256(),
    }


def save_agent(
    agent: PolicyAgent, folder: Path, env: ReplayableEnv, origin: dict[str, Any]
) -> None:
    """Write an agent: equal bytes for equal arguments.

    The env is one like those that it was trained in, with all keys that its networks
    see; the origin says how it was made, for people to read.
    """
    tensors = weights_of(agent.policy)
    weights = save({name: t.cpu().contiguous() for name, t in tensors.items()})
    spaces: Any = env.observation_space
    spec = _Spec(
        env=env.WORLD,
        interface=env.interface,
        spaces={key: (str(one.dtype), one.shape) for key, one in spaces.items()},  # pyright: ignore[reportArgumentType]
        actions=len(env.codes),
        observation=agent.key,
        temperature=agent.temperature,
        idle_temperature=agent.idle_temperature,
        kind=agent.policy.KIND,
        architecture=_architecture(agent.policy),
        origin=origin,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
    )
    # If only one of the two gets written, the checksum tells.
    write_bytes(folder / WEIGHTS, weights)
    write_json(folder / SPEC, spec.model_dump(mode="json", exclude_defaults=True))


def load_agent(
    folder: Path, env: ReplayableEnv | None = None, key: str | None = None
) -> PolicyAgent:
    """Read an agent, ready to play.

    Args:
        folder: Where it lies.
        env: Where it shall play, to check that it can; any if not given.
        key: What it has to see; anything if not given.

    Raises:
        InputError: In one line, if the folder is missing or damaged, or if the agent
            was made for other observations or actions.
    """
    spec = _read_spec(folder / SPEC)
    theirs: dict[str, Any] = {"observation": spec.observation}
    ours: dict[str, Any] = {"observation": key or spec.observation}
    if env is not None:
        ours |= {"env": env.WORLD, **env.interface, "actions": len(env.codes)}
        theirs |= {"env": spec.env, **spec.interface, "actions": spec.actions}
    for name in ours | theirs:
        if (found := theirs.get(name)) != (needed := ours.get(name)):
            raise InputError(
                f"{folder}: the policy was made for {name} {found!r}, params.yaml has "
                f"{needed!r}: train it again"
            )
    try:
        policy = spec.build()
    except (ArithmeticError, LookupError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{folder / SPEC}: no network reads the spaces {spec.spaces}: "
            f"{error}: train it again"
        ) from error
    if spec.architecture != (needed := _architecture(policy)):
        raise InputError(
            f"{folder / SPEC}: the policy's architecture is {spec.architecture}, "
            f"this version builds {needed}: train it again"
        )
    tensors = _read_weights(folder / WEIGHTS, spec.weights_sha256)
    found, needed = _forms(tensors), _forms(weights_of(policy))
    if differ := {name for name, _ in found.items() ^ needed.items()}:
        raise InputError(
            f"{folder / WEIGHTS}: holds {_only(differ, found)}, the network needs "
            f"{_only(differ, needed)}: train it again"
        )
    set_weights(policy, tensors)
    return PolicyAgent(
        policy, spec.observation, spec.temperature, spec.idle_temperature
    )


def _architecture(policy: Policy) -> dict[str, Any]:
    """Return the layers of each network, by their classes."""
    networks = {"values": policy.features_extractor}
    if isinstance(policy, AsymmetricPolicy):
        networks = {
            "actor": policy.pi_features_extractor,
            "critic": policy.vf_features_extractor,
        }
    return {
        name: [type(layer).__name__ for layer in features.network.layers]  # pyright: ignore[reportAttributeAccessIssue, reportGeneralTypeIssues]
        for name, features in networks.items()
    }


def _read_spec(path: Path) -> _Spec:
    try:
        return _Spec.model_validate_json(read_bytes(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        if first["loc"] and first["type"] != "missing":
            where += f" = {shorten(first['input'])}"
        raise InputError(
            f"{path}: {where}: {first['msg']}: it is damaged, or was made by an older "
            "version: train it again"
        ) from error


def _read_weights(path: Path, sha256: str) -> dict[str, torch.Tensor]:
    content = read_bytes(path)
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise InputError(
            f"{path}: is damaged or not the one that {SPEC} describes: its SHA-256 is "
            f"{found}, {SPEC} says {sha256!r}"
        )
    try:
        return load(content)
    except SafetensorError as error:
        raise InputError(
            f"{path}: is not in the safetensors format: {error}"
        ) from error


def _forms(tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    return {name: f"{t.dtype} {tuple(t.shape)}" for name, t in tensors.items()}


def _only(names: set[str], forms: dict[str, str]) -> dict[str, str]:
    return {name: forms[name] for name in sorted(names & forms.keys())}
