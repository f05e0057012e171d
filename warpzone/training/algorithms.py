"""The algorithms that recipes name: a row each, all of Stable-Baselines3."""

import inspect
from typing import Annotated, Any, NamedTuple

import sb3_contrib
import stable_baselines3
import torch
from pydantic import Field
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from warpzone.agents.networks import (
    ADAM,
    AsymmetricPolicy,
    QPolicy,
    QuantilePolicy,
    RecurrentPolicy,
)
from warpzone.agents.policy import Policy
from warpzone.core.errors import InputError
from warpzone.core.params import RecipeParams, check_section
from warpzone.envs.registry import agent_key, observed_keys
from warpzone.training.memory import ReplayMemory, returns_of
from warpzone.training.value_based import QRDQN, DoubleDQN, ValueBased


class Algorithm(NamedTuple):
    """An algorithm and the policy that it trains."""

    model: type[BaseAlgorithm]
    policy: type[AsymmetricPolicy | QPolicy | QuantilePolicy]
    packages: tuple[str, ...] = ()
    """Those that decide what it ends in, beside the usual ones."""

    @property
    def is_value_based(self) -> bool:
        return issubclass(self.model, ValueBased)


ALGORITHMS = {
    "ppo": Algorithm(stable_baselines3.PPO, AsymmetricPolicy),
    "a2c": Algorithm(stable_baselines3.A2C, AsymmetricPolicy),
    "recurrent_ppo": Algorithm(
        sb3_contrib.RecurrentPPO, RecurrentPolicy, ("sb3-contrib",)
    ),
    "dqn": Algorithm(DoubleDQN, QPolicy),
    "qrdqn": Algorithm(QRDQN, QuantilePolicy, ("sb3-contrib",)),
}
"""By the names that recipes give them."""

# What is decided here, or has no place in params.yaml. All algorithms optimise with
# `ADAM`: A2C's own RMSprop would take other square roots on other processors.
_OURS = {
    *inspect.signature(BaseAlgorithm).parameters,
    "optimize_memory_usage",
    "rms_prop_eps",
    "use_rms_prop",
    "rollout_buffer_class",
    "rollout_buffer_kwargs",
    "replay_buffer_class",
    "replay_buffer_kwargs",
    "_init_setup_model",
} - {"learning_rate"}

# Lowest and highest value that can work, by name; the others take 0 to a billion.
_LIMITS = {
    "batch_size": (2, 65_536),
    "buffer_size": (2, 10**8),
    "clip_range": (1e-6, 10.0),
    "ent_coef": (0.0, 1.0),
    "exploration_final_eps": (0.0, 1.0),
    "exploration_fraction": (1e-6, 1.0),
    "exploration_initial_eps": (0.0, 1.0),
    "gae_lambda": (0.0, 1.0),
    "gamma": (0.0, 1.0),
    "gradient_steps": (1, 1_000),
    "learning_rate": (1e-12, 1.0),
    "max_grad_norm": (1e-6, 1e6),
    "n_epochs": (1, 1_000),
    "n_steps": (1, 65_536),
    "target_kl": (1e-6, 1e6),
    "target_update_interval": (1, 10**9),
    "tau": (1e-6, 1.0),
    "train_freq": (1, 65_536),
    "vf_coef": (0.0, 1e3),
}


def check_recipe(name: str, recipe: RecipeParams) -> None:
    """Check a recipe against its algorithm's signature.

    Every number of the signature has to be given, so that params.yaml owns it.

    Raises:
        InputError: In one line, with both halves of a misspelt key.
    """
    where, given = f"recipes.{name}", recipe.algorithm_kwargs
    if recipe.algorithm not in ALGORITHMS:
        raise InputError(
            f"params.yaml: {where}.algorithm = {recipe.algorithm!r}: it is one of "
            f"{', '.join(ALGORITHMS)}"
        )
    algorithm = ALGORITHMS[recipe.algorithm]
    parameters = inspect.signature(algorithm.model).parameters
    known = {key: p.default for key, p in parameters.items() if key not in _OURS}
    fields = {key: _field(key, default) for key, default in known.items()}
    names = fields.keys() | RecipeParams.model_fields.keys()
    check_section(where, fields, given, names)
    is_value_based = algorithm.is_value_based
    for key, needed, has_it in (
        ("final_ent_coef", "an ent_coef", "ent_coef" in known),
        ("critic_warmup", "a critic", not is_value_based),
    ):
        if has_it != (getattr(recipe, key) is not None):
            verb = "lacks" if has_it else f"has, without {needed},"
            raise InputError(f"params.yaml: {where} {verb} {key}")
    _check_start(name, recipe, algorithm)
    for key in ("gail", "rnd"):
        if getattr(recipe, key) and is_value_based:
            raise InputError(
                f"params.yaml: {where}: {key} pays rollouts, which "
                f"{recipe.algorithm} has none of: take it out, or use ppo"
            )
    if recipe.gail is not None and given["gamma"] == 1:
        raise InputError(
            f"params.yaml: {where}.gamma = 1: gail needs one below 1, as an ended "
            "episode is paid for ever"
        )
    steps = recipe.n_envs * given["n_steps"]
    batch_size, size = given.get("batch_size"), given.get("buffer_size", steps)
    wrong = ""
    if not is_value_based and steps % (batch_size or 1):
        wrong = f"batch_size {batch_size} does not divide the rollout of"
    elif size < steps:
        wrong = f"buffer_size {size} is less than"
    if wrong:
        raise InputError(f"params.yaml: {where}: {wrong} n_envs x n_steps = {steps}")
    if (waits := given.get("learning_starts", 0)) >= recipe.total_timesteps:
        raise InputError(
            f"params.yaml: {where}: learning_starts {waits} leaves nothing of the "
            f"total_timesteps {recipe.total_timesteps} to learn in"
        )


def check_kind(recipe: RecipeParams, policy: Policy) -> None:
    """Check that a recipe's algorithm trains policies of this kind.

    Raises:
        InputError: If it does not.
    """
    if (trained := ALGORITHMS[recipe.algorithm].policy.KIND) != policy.KIND:
        raise InputError(
            f"the start is a policy of the kind {policy.KIND}, {recipe.algorithm} "
            f"trains one of the kind {trained}: start from another one"
        )


def _check_start(name: str, recipe: RecipeParams, algorithm: Algorithm) -> None:
    """Check that an algorithm can begin where its recipe says."""
    fitting, other = "cloning", "demonstrations"
    if algorithm.is_value_based:
        fitting, other = other, fitting
    kind, clone = algorithm.policy.KIND, AsymmetricPolicy.KIND
    is_recurrent = kind == RecurrentPolicy.KIND
    starts = "scratch or a model of its kind" if is_recurrent else "scratch or demos"
    trains = f"{recipe.algorithm} trains a policy of the kind {kind}"
    wrong = ""
    if kind != clone and name == "teacher":
        wrong = f"{trains}, clones learn from one of the kind {clone}: "
        wrong += "write ppo or a2c"
    elif kind != clone and recipe.start == "bc":
        wrong = f"{trains}, bc is one of the kind {clone}: start from {starts}"
    elif is_recurrent and recipe.start == "demos":
        wrong = "start = 'demos': cloning is of single steps, and "
        wrong += f"{recipe.algorithm} has a memory: start from {starts}"
    elif getattr(recipe, other) is not None:
        wrong = f"{recipe.algorithm} learns from demos by {fitting}, not by {other}"
    if wrong:
        raise InputError(f"params.yaml: recipes.{name}: {wrong}")


def _field(key: str, default: Any) -> Any:
    """Return the type of a keyword argument and what it is if it is not given."""
    if isinstance(default, bool):
        return bool, default
    low, high = _LIMITS.get(key, (0, 10**9))
    kind = int if isinstance(default, int) and isinstance(low, int) else float
    number: Any = Annotated[kind, Field(ge=low, le=high)]
    if isinstance(default, int | float):
        return number, ...
    return number | None, default


def keys_to_show(env: str, recipe: RecipeParams) -> tuple[str, ...]:
    """Return what an env that an agent learns in has to show: the state to a critic."""
    if ALGORITHMS[recipe.algorithm].is_value_based:
        return (agent_key(env, recipe.observation),)
    return observed_keys(env, recipe.observation)


def make_model(
    recipe: RecipeParams,
    envs: VecEnv,
    world: str,
    actor_key: str,
    seed: int,
    device: torch.device,
    writers: list[KVWriter],
) -> BaseAlgorithm:
    """Return an algorithm as a recipe says, with random weights.

    The arguments are those of `warpzone.training.train.train`; the actor sees one key
    of the observations.
    """
    kwargs, algorithm = recipe.algorithm_kwargs, ALGORITHMS[recipe.algorithm]
    kwargs["learning_rate"] = LinearSchedule(
        kwargs["learning_rate"], recipe.final_learning_rate, end_fraction=1.0
    )
    if algorithm.is_value_based:
        kwargs["replay_buffer_class"] = ReplayMemory
        kwargs["replay_buffer_kwargs"] = returns_of(recipe)
        # What SB3 would ignore, and warn of.
        del kwargs["n_steps"]
    policy_kwargs = {"world": world, "actor_key": actor_key}
    # Without them SB3 gives some algorithms an optimiser of their own.
    policy_kwargs |= {"optimizer_class": torch.optim.Adam, "optimizer_kwargs": ADAM}
    make: Any = algorithm.model
    model = make(
        algorithm.policy,
        envs,
        seed=seed,
        device=device,
        policy_kwargs=policy_kwargs,
        **kwargs,
    )
    # SB3's own logger would leave an empty folder in the temporary one.
    model.set_logger(Logger(folder=None, output_formats=writers))
    return model
