"""Small worlds, and small trainings in them."""

import inspect
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import gymnasium as gym
import pytest
import torch

from warpzone.agents.networks import POLICIES, AsymmetricPolicy
from warpzone.agents.policy import (
    Policy,
    PolicyAgent,
    build_policy,
    make_deterministic,
)
from warpzone.core.params import NoiseParams, RecipeParams
from warpzone.envs.curriculum import TrainingEnv
from warpzone.envs.registry import make_env
from warpzone.envs.replayable import ReplayableEnv, Snapshot
from warpzone.envs.vec_env import ThreadedVecEnv
from warpzone.episodes.table import Score
from warpzone.training.algorithms import ALGORITHMS
from warpzone.training.train import Training, train

EQUAL = Score(0.0, 0.0, 1)
TINY = {"emulator": "fceumm", "height": 36, "width": 36, "frame_stack": 1}


@dataclass(frozen=True)
class World:
    """A world, its noise, and what an actor sees of it."""

    name: str
    level: str
    key: str
    noise: NoiseParams
    kwargs: dict[str, Any] = field(default_factory=dict)
    threads: int = 2
    restart_probability: float = 0.0
    demo_start_probability: float = 0.0

    def but(self, **kwargs: Any) -> "World":
        """Return one with other arguments of the env."""
        return replace(self, kwargs=self.kwargs | kwargs)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.key, "state")))

    def make(
        self, level: str | None = None, keys: Sequence[str] | None = None
    ) -> ReplayableEnv:
        level, keys = level or self.level, keys or self.keys
        return make_env(self.name, self.kwargs, level, self.noise, keys)

    def policy(self, seed: int = 9, kind: str = AsymmetricPolicy.KIND) -> Policy:
        make_deterministic(seed)
        has_critic = issubclass(POLICIES[kind], AsymmetricPolicy)
        keys = self.keys if has_critic else (self.key,)
        with closing(self.make(keys=keys)) as env:
            space, actions = env.observation_space, len(env.codes)
        assert isinstance(space, gym.spaces.Dict)
        return build_policy(self.name, space, actions, self.key, kind)

    def agent(
        self, policy: Policy | None = None, temperature: float = 0.0
    ) -> PolicyAgent:
        return PolicyAgent(policy or self.policy(), self.key, temperature)

    def envs(
        self,
        count: int,
        starts: Sequence[Snapshot] = (),
        keys: Sequence[str] | None = None,
    ) -> ThreadedVecEnv:
        shares = self.demo_start_probability, self.restart_probability
        make = partial(self.make, keys=keys)
        make_one = partial(TrainingEnv, make, starts, *shares)
        return ThreadedVecEnv([make_one] * count, self.threads)

    def starts(self, env: ReplayableEnv) -> list[Snapshot]:
        """Return two states of an episode. They are good while the env is open."""
        env.reset(seed=1)
        snapshots = []
        for _ in range(2):
            for _ in range(3):
                env.step(1)
            snapshots.append(env.snapshot())
        return snapshots

    def train(
        self,
        recipe: RecipeParams,
        *,
        seed: int = 5,
        start: Policy | None = None,
        score: Callable[[Policy], Score] = lambda _: EQUAL,
        **more: Any,
    ) -> Training:
        start = start or self.policy(kind=ALGORITHMS[recipe.algorithm].policy.KIND)
        is_value_based = ALGORITHMS[recipe.algorithm].is_value_based
        keys = (self.key,) if is_value_based else self.keys
        with closing(self.make(keys=keys)) as env:
            starts = self.starts(env) if self.demo_start_probability else ()
            make_deterministic(seed)
            with closing(self.envs(recipe.n_envs, starts, keys)) as envs:
                return train(
                    envs,
                    self.agent(start),
                    self.name,
                    recipe,
                    seed,
                    score,
                    torch.device("cpu"),
                    **more,
                )


@pytest.fixture
def cartpole(noise: NoiseParams) -> World:
    return World("cartpole", "default", "state", noise, {"time_limit": 500})


@pytest.fixture
def tiny_mario(noise: NoiseParams) -> World:
    """Tiny pixels for speed, and episodes of exactly 8 agent steps."""
    kwargs = TINY | {"time_limit": 8, "stuck_limit": 0}
    return World("mario", "1-1", "pixels", noise, kwargs)


@pytest.fixture(params=["cartpole", "pixels", "state"])
def world(request: pytest.FixtureRequest, cartpole: World, tiny_mario: World) -> World:
    """CartPole, Mario's pixels and Mario's state in turn."""
    if request.param == "cartpole":
        return cartpole
    return replace(tiny_mario, key=request.param)


@pytest.fixture
def recipe() -> Callable[..., RecipeParams]:
    """Make a recipe whose rollouts, rows and evaluations come every 32 agent steps."""

    def recipe(**changes: Any) -> RecipeParams:
        values = {
            "algorithm": "ppo",
            "start": "scratch",
            "observation": "pixels",
            "temperature": 0.0,
            "idle_temperature": None,
            "total_timesteps": 96,
            "n_envs": 2,
            "n_steps": 16,
            "batch_size": 16,
            "n_epochs": 2,
            "learning_rate": 1e-3,
            "final_learning_rate": 1e-3,
            "ent_coef": 0.01,
            "final_ent_coef": 0.0,
            "gamma": 0.9,
            "gae_lambda": 0.95,
            "clip_range": 0.2,
            "vf_coef": 0.5,
            "max_grad_norm": 0.5,
            "target_kl": 0.5,
            "critic_warmup": 0,
            "ema_decay": 0.5,
            "demo_start_probability": 0.0,
            "restart_probability": 0.0,
            "log_freq": 32,
            "eval_freq": 32,
            "n_eval_episodes": 1,
            "goal_success_rate": 1.0,
            "collapse_share": 0.0,
            "patience": 1,
        }
        return RecipeParams(**values | changes)

    return recipe


@pytest.fixture
def recipe_of(recipe: Callable[..., RecipeParams]) -> Callable[..., RecipeParams]:
    """Make a recipe of any algorithm; what DQN remembers, 2 x 30 steps, runs over."""
    ours = RecipeParams.model_fields.keys() - {"cloning", "demonstrations"}
    dqn = {
        "batch_size": 8,
        "buffer_size": 60,
        "learning_starts": 10,
        "tau": 1.0,
        "train_freq": 4,
        "gradient_steps": 2,
        "n_steps": 3,
        "target_update_interval": 20,
        "exploration_fraction": 0.7,
        "exploration_initial_eps": 1.0,
        "exploration_final_eps": 0.1,
        "max_grad_norm": 10.0,
        "critic_warmup": None,
        "final_ent_coef": None,
    }

    def recipe_of(algorithm: str, **changes: Any) -> RecipeParams:
        values: dict[str, Any] = recipe().model_dump(exclude={"cloning"})
        known = inspect.signature(ALGORITHMS[algorithm].model).parameters
        values |= dqn if algorithm.endswith("dqn") else {}
        for key in values.keys() - ours - known.keys():
            del values[key]
        values |= {"algorithm": algorithm} | changes
        return RecipeParams(**values)

    return recipe_of


@pytest.fixture
def weights() -> Callable[[torch.nn.Module], dict[str, torch.Tensor]]:
    """Copy the weights of a policy, by name."""
    return lambda policy: {n: p.detach().clone() for n, p in policy.named_parameters()}


@pytest.fixture
def are_equal() -> Callable[..., bool]:
    """Compare weights to the bit."""

    def are_equal(ours: dict, theirs: dict) -> bool:
        return ours.keys() == theirs.keys() and all(
            torch.equal(ours[name], theirs[name]) for name in theirs
        )

    return are_equal
