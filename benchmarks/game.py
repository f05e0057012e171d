"""What the benchmarks play: Super Mario Bros as params.yaml has it, on one level."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from warpzone.agents.networks import AsymmetricPolicy
from warpzone.agents.policy import build_policy
from warpzone.core.params import NoiseParams, Params, load_params
from warpzone.envs.mario.env import MarioEnv

WORLD = "mario"
LEVEL = "1-1"
PARAMS = Path("params.yaml")


@dataclass(frozen=True)
class Game:
    """Arguments of `MarioEnv`."""

    kwargs: Mapping[str, Any]
    """As params.yaml has them."""
    noise: NoiseParams

    @classmethod
    def of(cls, params: Params) -> Self:
        """Return the game of params.yaml, whichever env it trains in."""
        return cls(params.envs[WORLD].kwargs, params.noise)

    def but(self, **changes: Any) -> Self:
        """Return the same game with other keyword arguments."""
        return replace(self, kwargs={**self.kwargs, **changes})

    @property
    def emulator(self) -> str:
        """Name of the emulator that plays it."""
        return self.kwargs["emulator"]

    @property
    def arguments(self) -> dict[str, Any]:
        """All keyword arguments, those of the noise, too."""
        return {**self.kwargs, **self.noise.model_dump()}

    def policy(self) -> AsymmetricPolicy:
        """Build an untrained policy whose actor sees pixels and whose critic RAM."""
        env = MarioEnv(LEVEL, **self.arguments, obs_type=("pixels", "state"))
        spaces, actions = env.observation_space, len(env.codes)
        env.close()
        policy = build_policy(WORLD, spaces, actions, "pixels")  # pyright: ignore[reportArgumentType]
        assert isinstance(policy, AsymmetricPolicy)
        return policy


def read_params() -> Params:
    """Read params.yaml."""
    return load_params(PARAMS)
