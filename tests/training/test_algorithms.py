"""The table of algorithms, and recipes that do not fit theirs."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sb3_contrib
import stable_baselines3
import torch

from warpzone.agents.networks import AsymmetricPolicy
from warpzone.core.errors import InputError
from warpzone.core.params import GAILParams, load_params
from warpzone.training.algorithms import (
    ALGORITHMS,
    Algorithm,
    check_recipe,
    keys_to_show,
    make_model,
)

CLONING = {
    "batch_size": 8,
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "updates": 4,
}
DEMONSTRATIONS = {"share": 0.25, "margin": 0.8, "margin_weight": 1.0, "updates": 4}

PARAMS = Path(__file__).parents[2] / "params.yaml"


def refused(recipe, **changes):
    """Return why a recipe is refused, without what stands before."""
    values = recipe().model_dump() | changes
    del values["cloning"]
    missing = [name for name, value in values.items() if value is ...]
    for name in missing:
        del values[name]
    rl = recipe().__class__(**values)
    with pytest.raises(InputError) as raised:
        check_recipe("ppo", rl)
    said = str(raised.value)
    assert "\n" not in said
    assert said.startswith("params.yaml: recipes.ppo")
    return said.removeprefix("params.yaml: recipes.ppo")


def test_the_recipes_of_params_yaml_are_fine():
    recipes = load_params(PARAMS).recipes
    assert recipes
    for name, recipe in recipes.items():
        check_recipe(name, recipe)


def test_both_halves_of_a_misspelt_key_are_in_one_line(recipe):
    said = refused(recipe, gamma=..., gama=0.9)
    assert said == " lacks ['gamma'] and has unknown ['gama']"


def test_every_number_of_the_algorithm_has_to_be_given(recipe):
    said = refused(recipe, clip_range=..., n_epochs=...)
    assert said == " lacks ['clip_range', 'n_epochs']"


def test_what_may_be_nothing_need_not_be_given(recipe):
    check_recipe("ppo", recipe(target_kl=None, clip_range_vf=None))
    check_recipe("ppo", recipe(clip_range_vf=0.2, normalize_advantage=False))


@pytest.mark.parametrize("key", ["policy", "env", "seed", "device", "verbose"])
def test_what_the_stage_decides_is_unknown(recipe, key):
    said = refused(recipe, **{key: 1})
    assert said.startswith(f" has unknown ['{key}']")


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("gamma", "0.9", "write a number, with a point"),
        ("gamma", float("nan"), "write a number, with a point"),
        ("vf_coef", float("inf"), "write a number, with a point"),
        ("learning_rate", [1e-3], "write a number, with a point"),
        ("n_steps", 16.0, "write 16"),
        ("n_steps", 16.5, "write a whole number"),
        ("n_epochs", "2", "write a whole number"),
        ("normalize_advantage", 1, "write true or false"),
        ("normalize_advantage", "yes", "write true or false"),
        ("target_kl", "none", "write a number, with a point"),
    ],
)
def test_a_value_of_another_type_is_refused(recipe, key, value, reason):
    assert refused(recipe, **{key: value}) == f".{key} = {value!r}: {reason}"


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("gamma", True, "true: write a number, with a point"),
        ("gamma", None, "null: write a number, with a point"),
        ("batch_size", True, "true: write a whole number"),
    ],
)
def test_a_value_is_shown_as_yaml_has_it(recipe, key, value, shown):
    assert refused(recipe, **{key: value}) == f".{key} = {shown}"


@pytest.mark.parametrize(
    ("key", "value", "limit"),
    [
        ("gamma", 1.01, "less than or equal to 1"),
        ("gae_lambda", -0.1, "greater than or equal to 0"),
        ("learning_rate", 0.0, "greater than or equal to 0.000000000001"),
        ("learning_rate", 3, "less than or equal to 1"),
        ("clip_range", 0.0, "greater than or equal to 0.000001"),
        ("ent_coef", -0.01, "greater than or equal to 0"),
        ("n_epochs", 0, "greater than or equal to 1"),
        ("n_steps", 0, "greater than or equal to 1"),
        ("batch_size", 1, "greater than or equal to 2"),
        ("target_kl", 0.0, "greater than or equal to 0.000001"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_limit(recipe, key, value, limit):
    said = refused(recipe, **{key: value})
    assert said == f".{key} = {value!r}: input should be {limit}"


def test_a_batch_that_does_not_divide_the_rollout_is_refused(recipe):
    assert refused(recipe, n_envs=3, n_steps=16, batch_size=32) == (
        ": batch_size 32 does not divide the rollout of n_envs x n_steps = 48"
    )
    check_recipe("ppo", recipe(n_envs=4, n_steps=16, batch_size=32))


def test_only_what_learns_from_rollouts_needs_them_divided(recipe_of):
    # A rollout is 2 x 4 agent steps, a batch is drawn from the 60 that are remembered.
    check_recipe("dqn", recipe_of("dqn", batch_size=33))


def why(recipe, name="mine"):
    with pytest.raises(InputError) as raised:
        check_recipe(name, recipe)
    said = str(raised.value)
    assert "\n" not in said
    return said.removeprefix(f"params.yaml: recipes.{name}")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_small_recipe_of_an_algorithm_is_fine(recipe_of, algorithm):
    check_recipe("mine", recipe_of(algorithm))


@pytest.mark.parametrize(
    ("algorithm", "changes", "reason"),
    [
        ("ppo", {"critic_warmup": None}, " lacks critic_warmup"),
        ("dqn", {"critic_warmup": 0}, " has, without a critic, critic_warmup"),
        ("dqn", {"final_ent_coef": 0.0}, " has, without an ent_coef, final_ent_coef"),
        ("dqn", {"gae_lambda": 0.9}, " has unknown ['gae_lambda']: it knows "),
        ("dqn", {"bufer_size": 9}, " has unknown ['bufer_size']: did you mean batch"),
        ("a2c", {"use_rms_prop": True}, " has unknown ['use_rms_prop']: "),
        ("dqn", {"optimize_memory_usage": True}, " has unknown ['optimize_memory_us"),
        (
            "dqn",
            {"buffer_size": 5},
            ": buffer_size 5 is less than n_envs x n_steps = 6",
        ),
        (
            "qrdqn",
            {"learning_starts": 96},
            ": learning_starts 96 leaves nothing of the total_timesteps 96 to learn in",
        ),
        (
            "dqn",
            {"start": "bc"},
            ": dqn trains a policy of the kind q, bc is one of the kind actor-critic: "
            "start from scratch or demos",
        ),
        (
            "recurrent_ppo",
            {"start": "bc"},
            ": recurrent_ppo trains a policy of the kind recurrent, bc is one of the "
            "kind actor-critic: start from scratch or a model of its kind",
        ),
        (
            "recurrent_ppo",
            {"start": "demos", "cloning": CLONING},
            ": start = 'demos': cloning is of single steps, and recurrent_ppo has a "
            "memory: start from scratch or a model of its kind",
        ),
        ("recurrent_ppo", {"n_epochs": None}, ".n_epochs = null: write a whole number"),
        ("recurrent_ppo", {"rollout_buffer_class": 1}, " has unknown ['rollout_buffer"),
        (
            "recurrent_ppo",
            {"batch_size": 15},
            ": batch_size 15 does not divide the rollout of n_envs x n_steps = 32",
        ),
        (
            "qrdqn",
            {"start": "demos", "cloning": CLONING},
            ": qrdqn learns from demos by demonstrations, not by cloning",
        ),
        (
            "a2c",
            {"start": "demos", "demonstrations": DEMONSTRATIONS},
            ": a2c learns from demos by cloning, not by demonstrations",
        ),
    ],
)
def test_what_does_not_fit_an_algorithm_is_refused(
    recipe_of, algorithm, changes, reason
):
    assert why(recipe_of(algorithm, **changes)).startswith(reason)


@pytest.mark.parametrize(
    ("algorithm", "kind"), [("dqn", "q"), ("recurrent_ppo", "recurrent")]
)
def test_a_teacher_has_a_critic_and_no_memory(recipe_of, algorithm, kind):
    assert why(recipe_of(algorithm), "teacher") == (
        f": {algorithm} trains a policy of the kind {kind}, clones learn from one of "
        "the kind actor-critic: write ppo or a2c"
    )


def test_one_more_row_is_one_more_algorithm(cartpole, recipe_of, monkeypatch):
    """The row of CONTRIBUTING."""
    row = Algorithm(sb3_contrib.TRPO, AsymmetricPolicy, ("sb3-contrib",))
    monkeypatch.setitem(ALGORITHMS, "trpo", row)
    trpo = {"cg_max_steps": 15, "cg_damping": 0.1, "line_search_max_iter": 10}
    trpo |= {"line_search_shrinking_factor": 0.8, "n_critic_updates": 2}
    trpo |= {"sub_sampling_factor": 1, "target_kl": 0.01}
    rl = recipe_of("trpo", **trpo, final_ent_coef=None)
    check_recipe("trpo", rl)
    curve = cartpole.train(rl).curve
    assert curve["agent_steps"].tolist() == [0, 32, 64, 96]
    assert curve["value_loss"].iloc[-1] > 0


@pytest.mark.parametrize("algorithm", ["dqn", "qrdqn"])
def test_what_is_value_based_sees_one_key(recipe_of, algorithm):
    assert keys_to_show("mario", recipe_of(algorithm)) == ("pixels",)
    assert keys_to_show("cartpole", recipe_of(algorithm)) == ("state",)
    assert keys_to_show("mario", recipe_of("a2c")) == ("pixels", "state")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_all_are_optimised_alike(cartpole, recipe_of, algorithm):
    with closing(cartpole.envs(2)) as envs:
        cpu = torch.device("cpu")
        model = make_model(recipe_of(algorithm), envs, "cartpole", "state", 5, cpu, [])
    optimizer: Any = model.policy.optimizer
    assert type(optimizer) is torch.optim.Adam
    [group] = optimizer.param_groups
    assert (group["eps"], group["fused"]) == (1e-5, True)
    # The target network is no part of it.
    assert len(group["params"]) == len(list(model.policy.player.parameters()))  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]


def test_gail_needs_a_discount(recipe):
    gail = {"batch_size": 2, "learning_rate": 1e-3, "updates": 1, "weight_decay": 0.0}
    gail |= {"weight": 1.0, "env_weight": 0.0}
    check_recipe("ppo", recipe(gail=GAILParams(**gail)))
    assert refused(recipe, gail=gail, gamma=1.0) == (
        ".gamma = 1: gail needs one below 1, as an ended episode is paid for ever"
    )


@pytest.mark.parametrize("key", ["gail", "rnd"])
def test_learned_rewards_need_rollouts(recipe_of, key):
    section: dict[str, Any] = {"batch_size": 2, "learning_rate": 1e-3, "updates": 1}
    section |= {"weight": 1.0}
    if key == "gail":
        section |= {"weight_decay": 0.0, "env_weight": 0.0}
    assert why(recipe_of("dqn", **{key: section})) == (
        f": {key} pays rollouts, which dqn has none of: take it out, or use ppo"
    )


def test_an_unknown_algorithm_is_refused_with_the_known_ones(recipe):
    said = refused(recipe, algorithm="reinforce")
    known = ", ".join(ALGORITHMS)
    assert said == f".algorithm = 'reinforce': it is one of {known}"


def test_an_entropy_coefficient_needs_its_end(recipe):
    assert refused(recipe, final_ent_coef=None) == " lacks final_ent_coef"


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithm_is_sb3_s_own(name):
    algorithm = ALGORITHMS[name].model
    theirs: dict[str, type] = {
        "qrdqn": sb3_contrib.QRDQN,
        "recurrent_ppo": sb3_contrib.RecurrentPPO,
    }
    own = theirs.get(name) or getattr(stable_baselines3, name.upper())
    assert issubclass(algorithm, own)


def test_a_model_is_what_the_recipe_says(cartpole, recipe):
    rl = recipe(
        learning_rate=1e-3,
        final_learning_rate=1e-4,
        clip_range=0.3,
        target_kl=0.7,
        gamma=0.91,
    )
    with closing(cartpole.envs(2)) as envs:
        cpu = torch.device("cpu")
        model: Any = make_model(rl, envs, "cartpole", "state", 5, cpu, [])
    assert (model.n_steps, model.batch_size, model.n_epochs) == (16, 16, 2)
    assert (model.gamma, model.gae_lambda, model.target_kl) == (0.91, 0.95, 0.7)
    assert (model.ent_coef, model.vf_coef, model.max_grad_norm) == (0.01, 0.5, 0.5)
    assert model.clip_range(1) == 0.3
    # The learning rate falls in a straight line.
    rates = [model.lr_schedule(rest) for rest in (1, 0.5, 0)]
    assert rates == pytest.approx([1e-3, 5.5e-4, 1e-4])
    assert model.n_envs == 2
    # Nobody overrides the update.
    assert type(model) is stable_baselines3.PPO


def test_equal_seeds_make_equal_models(cartpole, recipe):
    def weights(seed):
        with closing(cartpole.envs(2)) as envs:
            cpu = torch.device("cpu")
            model = make_model(recipe(), envs, "cartpole", "state", seed, cpu, [])
        return torch.cat([p.flatten() for p in model.policy.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
