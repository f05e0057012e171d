"""The algorithms that recipes name: a row each, all of Stable-Baselines3."""

import inspect
from typing import Annotated, Any

import stable_baselines3
import torch
from pydantic import Field
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from warpzone.agents.networks import AsymmetricPolicy
from warpzone.core.errors import InputError
from warpzone.core.params import RecipeParams, check_section

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {
    "ppo": stable_baselines3.PPO,
}
"""By the names that recipes give them. Each takes an actor-critic policy."""

# What is decided here, or has no place in params.yaml.
_OURS = {
    *inspect.signature(BaseAlgorithm).parameters,
    "rollout_buffer_class",
    "rollout_buffer_kwargs",
    "replay_buffer_class",
    "replay_buffer_kwargs",
    "_init_setup_model",
} - {"learning_rate"}

# Lowest and highest value that can work, by name; the others take 0 to a billion.
_LIMITS = {
    "batch_size": (2, 65_536),
    "clip_range": (1e-6, 10.0),
    "ent_coef": (0.0, 1.0),
    "gae_lambda": (0.0, 1.0),
    "gamma": (0.0, 1.0),
    "learning_rate": (1e-12, 1.0),
    "max_grad_norm": (1e-6, 1e6),
    "n_epochs": (1, 1_000),
    "n_steps": (1, 65_536),
    "target_kl": (1e-6, 1e6),
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
    parameters = inspect.signature(algorithm).parameters
    known = {key: p.default for key, p in parameters.items() if key not in _OURS}
    fields = {key: _field(key, default) for key, default in known.items()}
    names = fields.keys() | RecipeParams.model_fields.keys()
    check_section(where, fields, given, names)
    if ("ent_coef" in known) != (recipe.final_ent_coef is not None):
        verb = "lacks" if "ent_coef" in known else "has, without an ent_coef,"
        raise InputError(f"params.yaml: {where} {verb} final_ent_coef")
    for key in ("gail", "rnd"):
        if getattr(recipe, key) and not issubclass(algorithm, OnPolicyAlgorithm):
            raise InputError(
                f"params.yaml: {where}: {key} pays rollouts, which "
                f"{recipe.algorithm} has none of: take it out, or use ppo"
            )
    if recipe.gail is not None and given["gamma"] == 1:
        raise InputError(
            f"params.yaml: {where}.gamma = 1: gail needs one below 1, as an ended "
            "episode is paid for ever"
        )
    # What learns from a memory draws any number of steps from it.
    if issubclass(algorithm, OnPolicyAlgorithm):
        rollout, batch_size = recipe.n_envs * given["n_steps"], given.get("batch_size")
        if rollout % (batch_size or 1):
            raise InputError(
                f"params.yaml: {where}: batch_size {batch_size} does not divide the "
                f"rollout of n_envs x n_steps = {rollout}"
            )


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
    kwargs = recipe.algorithm_kwargs
    kwargs["learning_rate"] = LinearSchedule(
        kwargs["learning_rate"], recipe.final_learning_rate, end_fraction=1.0
    )
    model = ALGORITHMS[recipe.algorithm](
        AsymmetricPolicy,
        envs,
        seed=seed,
        device=device,
        policy_kwargs={"world": world, "actor_key": actor_key},
        **kwargs,
    )
    # SB3's own logger would leave an empty folder in the temporary one.
    model.set_logger(Logger(folder=None, output_formats=writers))
    return model
