"""The worlds by name, and what params.yaml may say of them."""

from typing import Any, Literal

import pytest

from warpzone.core.errors import InputError
from warpzone.core.params import NoiseParams, Params, parse_params
from warpzone.envs.cartpole import CartPoleEnv
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.registry import (
    WORLDS,
    agent_key,
    check_env,
    env_class,
    make_env,
    modules_of,
    observed_keys,
    register,
)


@pytest.fixture
def params(document: dict[str, Any]) -> Params:
    return parse_params(document, "params.yaml")


def check(document: dict[str, Any], name: str) -> None:
    params = parse_params(document, "params.yaml")
    check_env(name, params.envs[name], params.noise)


def test_every_world_of_params_yaml_is_there_and_its_section_is_valid(
    params: Params,
) -> None:
    assert set(params.envs) == set(WORLDS)
    for name, section in params.envs.items():
        check_env(name, section, params.noise)


def test_a_world_is_made_from_its_section(params: Params, noise: NoiseParams) -> None:
    env = make_env("mario", params.envs["mario"].kwargs, "1-3", noise, ("state",))
    assert isinstance(env, MarioEnv)
    assert (env.level, env.obs_keys, env.render_mode) == ("1-3", ("state",), None)
    assert (env.no_op_max, env.sticky_probability) == (30, 0.25)
    assert env.sticky_unit == "frame"


@pytest.mark.parametrize("per", ["frame", "decision"])
def test_a_noise_of_evaluations_says_what_it_is_drawn_for(
    params: Params, per: Literal["frame", "decision"]
) -> None:
    noise = params.evaluate.noises["default"].model_copy(update={"sticky_unit": per})
    assert make_env("cartpole", {}, "default", noise, "state").sticky_unit == per


def test_a_world_knows_itself_by_its_name_in_params_yaml() -> None:
    for name in WORLDS:
        assert name == env_class(name).WORLD
    assert env_class("cartpole") is CartPoleEnv


def test_a_world_that_there_is_not_is_refused_with_those_that_are() -> None:
    with pytest.raises(InputError, match="no env 'pong': there are mario, cartpole"):
        env_class("pong")


def test_both_halves_of_a_misspelt_key_are_named(document: dict[str, Any]) -> None:
    kwargs = document["envs"]["mario"]["kwargs"]
    kwargs["frame_skips"] = kwargs.pop("frame_skip")
    with pytest.raises(
        InputError,
        match=r"params.yaml: envs.mario.kwargs.*'frame_skip'.*unknown.*'frame_skips'",
    ):
        check(document, "mario")


@pytest.mark.parametrize(
    "name", ["level", "obs_type", "no_op_max", "sticky_unit", "render_mode"]
)
def test_what_the_stages_say_is_no_parameter(
    document: dict[str, Any], name: str
) -> None:
    document["envs"]["cartpole"]["kwargs"][name] = 1
    with pytest.raises(InputError, match=rf"envs.cartpole.kwargs.*unknown.*'{name}'"):
        check(document, "cartpole")


def test_a_value_that_cannot_be_is_named_with_its_section(
    document: dict[str, Any],
) -> None:
    document["envs"]["mario"]["kwargs"]["width"] = 20
    with pytest.raises(
        InputError, match=r"^params.yaml: envs.mario: width must be .*, got 20$"
    ):
        check(document, "mario")


def test_a_value_of_the_reference_is_checked_too(document: dict[str, Any]) -> None:
    document["envs"]["mario"]["reference"] = {"emulators": "nes-py"}
    with pytest.raises(InputError, match=r"reference has unknown \['emulators'\]"):
        check(document, "mario")
    document["envs"]["mario"]["reference"] = {"emulator": "mesen"}
    with pytest.raises(InputError, match="no emulator 'mesen'"):
        check(document, "mario")


def test_a_level_that_there_is_not_is_refused_in_every_task(
    document: dict[str, Any],
) -> None:
    document["envs"]["mario"]["tasks"] |= {"mine": ["1-2", "9-1", "1-5"]}
    with pytest.raises(
        InputError,
        match=r"envs.mario.tasks.mine has unknown levels \['1-5', '9-1'\]: mario has "
        r"1-1 to 8-4$",
    ):
        check(document, "mario")
    document["envs"]["cartpole"]["tasks"] = {"mine": ["hard"]}
    with pytest.raises(InputError, match=r"\['hard'\]: cartpole has default$"):
        check(document, "cartpole")


def test_an_agent_sees_the_state_where_there_are_no_pixels() -> None:
    assert agent_key("mario", "pixels") == "pixels"
    assert agent_key("mario", "state") == "state"
    assert agent_key("cartpole", "pixels") == "state"


def test_whoever_learns_is_shown_the_state_too() -> None:
    assert observed_keys("mario", "pixels") == ("pixels", "state")
    assert observed_keys("mario", "state") == ("state",)
    assert observed_keys("cartpole", "pixels") == ("state",)


def test_a_world_consists_of_its_env_and_its_demonstrator() -> None:
    assert modules_of("cartpole") == ["warpzone.envs.cartpole"]
    assert modules_of("mario") == [
        "warpzone.envs.mario.env",
        "warpzone.envs.mario.planner",
    ]


def test_registering_twice_changes_nothing(recwarn: pytest.WarningsRecorder) -> None:
    register()
    register()
    assert not recwarn.list
