"""params.yaml is checked once, and what is wrong is said in one line, in its words."""

import copy
import inspect
import math
import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from warpzone.core.errors import InputError
from warpzone.core.params import Params, RecipeParams, load_params, parse_params
from warpzone.core.yaml import read_yaml
from warpzone.envs.registry import check_env
from warpzone.training.algorithms import ALGORITHMS, check_recipe

PARAMS = Path(__file__).resolve().parents[2] / "params.yaml"
DOCUMENT = read_yaml(PARAMS)

KWARGS = "envs/mario/kwargs"
RECIPE = "recipes/bc-ppo"
QUIET = {"no_op_max": 0, "sticky_probability": 0.0, "sticky_unit": "frame"}
QUIET |= {"episodes": 1, "reference": False, "temperature": None}


def put(document: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Change one value, named as in ``recipes/bc-ppo/gamma``."""
    *sections, last = key.split("/")
    inner = document
    for section in sections:
        inner = inner[section]
    inner[last] = value
    return document


def check(document: Any, with_env: bool = True, with_recipes: bool = True) -> Params:
    """Check all of params.yaml, as stages/check_params.py does."""
    params = parse_params(document, "params.yaml")
    for name, recipe in params.recipes.items() if with_recipes else ():
        check_recipe(name, recipe)
    if with_env:
        check_env(params.env, params.world, params.noise)
    return params


def refusal(document: Any) -> str:
    with pytest.raises(InputError) as caught:
        check(document)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith("params.yaml: ")
    return message.removeprefix("params.yaml: ")


def test_the_params_of_this_repository_are_valid() -> None:
    assert isinstance(load_params(PARAMS), Params)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("seed", 1000, "input should be less than 1000"),
        ("seed", -1, "input should be greater than or equal to 0"),
        ("seed", 1.0, "write 1"),
        ("seed", True, "write a whole number"),
        ("device", "gpu", "input should be 'cpu', 'cuda' or 'auto'"),
        ("run/seeds", 2, "write a list, as [2]"),
        ("run/seeds", [], "write one value or more"),
        ("run/recipes", "ppo", "write a list, as [ppo]"),
        ("run/tasks", "1-2", "write a list, as [1-2]"),
        ("envs/mario/tasks/hard", "8-4", "write a list, as [8-4]"),
        ("envs/mario/tasks/hard", [], "write one value or more"),
        ("noise", 3, "write a section of keys and values"),
        ("noise/no_op_max", 301, "input should be less than or equal to 300"),
        ("noise/sticky_probability", 1.0, "input should be less than 1"),
        ("noise/sticky_probability", -0.1, "input should be greater than or equal"),
        ("noise/sticky_probability", "25%", "write a number, with a point"),
        ("noise/sticky_probability", "0,25", "write a number, with a point"),
        ("collect_demos/episodes", -1, "input should be greater than or equal to 0"),
        ("pretrain_bc/held_out_share", 1, "input should be less than 1"),
        ("pretrain_bc/learning_rate", 0, "input should be greater than 0"),
        ("pretrain_bc/weight_decay", -1e-4, "input should be greater than or equal"),
        ("pretrain_bc/idle_temperature", "cold", "write a number, with a point"),
        (f"{RECIPE}/total_timesteps", 1e6, "write 1000000"),
        (f"{RECIPE}/total_timesteps", "1e6", "write a whole number"),
        (f"{RECIPE}/n_envs", 257, "input should be less than or equal to 256"),
        (f"{RECIPE}/goal_success_rate", 97, "input should be less than or equal to 1"),
        (f"{RECIPE}/observation", "ram", "input should be 'pixels' or 'state'"),
        (f"{RECIPE}/start", "clone", "write scratch, demos, bc, or {model: data/"),
        (f"{RECIPE}/on_bad_health", "end", "input should be 'warn' or 'stop'"),
        (f"{RECIPE}/gail", 1.0, "write a section of keys and values"),
        (f"{RECIPE}/rnd", True, "write a section of keys and values"),
        (f"{RECIPE}/curriculum", "backward", "write a section of keys and values"),
        (f"{RECIPE}/temperature", -0.5, "input should be greater than or equal to 0"),
        ("evaluate/noises/default/episodes", 10_001, "input should be less than or eq"),
        ("evaluate/noises/default/episodes", 1e3, "write 1000"),
        ("evaluate/noises/default/reference", "yes", "write true or false"),
        ("evaluate/noises/default/temperature", -1, "input should be greater than"),
        (
            "evaluate/noises/default/temperature",
            "greedy",
            "write a number, with",
        ),
        ("evaluate/noises/default/sticky_unit", "step", "input should be 'frame' or"),
        ("evaluate/noises/none", None, "write a section of keys and values"),
        ("record_video/agents", "bc", "write a list, as [bc]"),
        ("record_video/gif_width", 63, "input should be greater than or equal to 64"),
        ("record_video/side_by_side_episode", None, "write a name, between quotes"),
        ("record_video/side_by_side_seconds", 0.005, "input should be greater than or"),
        ("record_video/side_by_side_seconds", 1e308, "input should be less than or eq"),
        ("compare/bootstrap_samples", None, "write a whole number"),
        ("compare/bootstrap_samples", 10**9, "input should be less than or equal"),
        # What SB3's algorithm is given, by the limits of what can work.
        (f"{RECIPE}/algorithm", "a3c", "it is one of ppo"),
        (f"{RECIPE}/gamma", 1.01, "input should be less than or equal to 1"),
        (f"{RECIPE}/gamma", "0,9", "write a number"),
        (f"{RECIPE}/learning_rate", "1e-4", "write a number"),
        (f"{RECIPE}/learning_rate", math.inf, "write a number"),
        (f"{RECIPE}/learning_rate", math.nan, "write a number"),
        (f"{RECIPE}/n_steps", 128.0, "write 128"),
        (
            f"{RECIPE}/n_steps",
            64 * 10**15,
            "input should be less than or equal to 65536",
        ),
        (f"{RECIPE}/n_epochs", "2", "write a whole number"),
        # What the world is given, by the types of its arguments.
        (f"{KWARGS}/frame_skip", "4", "write a whole number"),
        (f"{KWARGS}/frame_skip", 4.0, "write 4"),
        (f"{KWARGS}/crop_hud", "yes", "write true or false"),
        (f"{KWARGS}/emulator", ["fceumm"], "write a name"),
        (f"{KWARGS}/reward", 3, "write a section of keys and values"),
        (f"{KWARGS}/reward/death", "-1", "write a number"),
        (f"{KWARGS}/reward/death", math.nan, "write a number"),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_what_to_write(
    document: dict[str, Any], key: str, value: Any, reason: str
) -> None:
    message = refusal(put(document, key, value))
    # As YAML has it.
    shown = {"True": "true", "None": "null"}.get(repr(value), repr(value))
    assert message.startswith(f"{key.replace('/', '.')} = {shown}: {reason}")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("emulator", "fceum", "no emulator 'fceum': there are nes-py and fceumm"),
        (
            "action_set",
            "SIMPLE",
            "action_set must be one of walk, right_only, simple, complex, all, got "
            "'SIMPLE'",
        ),
        ("frame_skip", 0, "frame_skip must be a whole number, 1 to 60, got 0"),
        ("height", 35, "height must be a whole number, 36 to 240, got 35"),
        ("width", 257, "width must be a whole number, 36 to 256, got 257"),
        ("frame_stack", 17, "frame_stack must be a whole number, 1 to 16, got 17"),
        ("time_limit", 0, "time_limit must be a whole number, 1 to 1000000, got 0"),
        ("stuck_limit", -1, "stuck_limit must be a whole number, 0 to 1000000, got -1"),
        (
            "reward",
            {"clear": 1e300},
            "reward.clear = 1e+300: write a number, -1e+06 to",
        ),
        ("reward", {"progress_cap": -1}, "reward.progress_cap = -1: write a number, 0"),
        ("reward", {"deth": -1.0}, "reward has unknown ['deth'], it knows ['clear', "),
    ],
)
def test_what_only_the_world_knows_is_told_by_it(
    document: dict[str, Any], name: str, value: Any, reason: str
) -> None:
    message = refusal(put(document, f"{KWARGS}/{name}", value))
    assert message.startswith(f"envs.mario: {reason}")


PROMOTION = {"success_rate": 0.7, "window": 50}
BACKWARD = {"name": "backward", "stages": 10} | PROMOTION
SEQUENCE = {"name": "sequence", "earlier_share": 0.2} | PROMOTION
CURRICULUM = f"{RECIPE}/curriculum".replace("/", ".")


@pytest.mark.parametrize(
    ("curriculum", "message"),
    [
        (
            {"name": "backwards"},
            ".name = 'backwards': it is one of level-start, demo-states, backward, "
            "sequence, mixture",
        ),
        ({"window": 50}, " lacks ['name']"),
        (
            BACKWARD | {"window": 0},
            ".window = 0: input should be greater than or equal to 1",
        ),
        (
            SEQUENCE | {"success_rate": 70},
            ".success_rate = 70: input should be less than or equal to 1",
        ),
        (
            SEQUENCE | {"success_rate": 0.0},
            ".success_rate = 0.0: input should be greater than 0",
        ),
        (
            SEQUENCE | {"earlier_share": 1.0},
            ".earlier_share = 1.0: input should be less than 1",
        ),
        (
            SEQUENCE,
            " is a sequence of levels, and task 1-1 has only 1-1: give it a task of "
            "several levels",
        ),
        (
            {"name": "mixture", "weights": {"1-1": 0}},
            ".weights.1-1 = 0: input should be greater than 0",
        ),
        (
            {"name": "backward", "success_rate": 0.7, "windw": 50, "stages": 10},
            " lacks ['window'] and has unknown ['windw']",
        ),
        (
            {"name": "mixture", "weights": {"1-2": 1, "1-4": 2}},
            ".weights lacks ['1-1'] and has unknown ['1-2', '1-4']: task 1-1 has the "
            "levels 1-1",
        ),
    ],
)
def test_a_curriculum_that_cannot_be_is_told(
    document: dict[str, Any], curriculum: Any, message: str
) -> None:
    assert refusal(put(document, f"{RECIPE}/curriculum", curriculum)) == (
        f"{CURRICULUM}{message}"
    )


def test_weights_are_checked_against_each_task_of_the_run(
    document: dict[str, Any],
) -> None:
    document["envs"]["mario"]["tasks"]["two"] = ["1-1", "1-2", "1-1"]
    mixture = {"name": "mixture", "weights": {"1-1": 2, "1-2": 1.5}}
    put(document, f"{RECIPE}/curriculum", mixture)
    document["run"]["tasks"] = ["two"]
    check(document)
    document["run"]["tasks"] = ["two", "1-1"]
    assert refusal(document) == (
        f"{CURRICULUM}.weights has unknown ['1-2']: task 1-1 has the levels 1-1"
    )
    # A recipe that is not run is of no task.
    document["run"]["recipes"] = ["ppo"]
    document["record_video"]["agents"] = ["ppo-1"]
    check(document)


def test_there_is_one_curriculum_only(document: dict[str, Any]) -> None:
    document["recipes"]["bc-ppo"]["curriculum"] = SEQUENCE
    document["recipes"]["bc-ppo"]["demo_start_probability"] = 0.5
    assert refusal(document) == (
        "recipes.bc-ppo: demo_start_probability = 0.5 is a curriculum, and there is "
        "sequence, too: set it to 0.0"
    )


@pytest.mark.parametrize(
    ("changes", "needs"),
    [
        ({}, False),
        ({"demo_start_probability": 0.5}, True),
        ({"curriculum": {"name": "demo-states", "probability": 0.5}}, True),
        ({"curriculum": BACKWARD}, True),
        ({"curriculum": SEQUENCE}, False),
        ({"curriculum": {"name": "level-start"}}, False),
        ({"curriculum": None}, False),
    ],
)
def test_what_begins_along_demonstrations_needs_them(
    document: dict[str, Any], changes: dict[str, Any], needs: bool
) -> None:
    document["envs"]["mario"]["tasks"]["two"] = ["1-1", "1-2"]
    document["run"]["tasks"] = ["two"]
    document["recipes"]["bc-ppo"] |= changes
    recipes = check(document, with_env=False).recipes
    assert recipes["bc-ppo"].needs_demonstrations == needs
    assert recipes["teacher"].needs_demonstrations


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 999),
        ("run/tasks", ["8-4"]),
        (f"{KWARGS}/stuck_limit", 0),
        ("noise/sticky_probability", 0),
        ("collect_demos/episodes", 0),
        (f"{RECIPE}/gamma", 1),
        (f"{RECIPE}/target_kl", None),
        ("pretrain_bc/idle_temperature", None),
        ("evaluate/noises/default/episodes", 10_000),
        ("evaluate/noises/default/sticky_unit", "decision"),
        ("record_video/agents", ["random", "bc", "bc-ppo-1"]),
        ("record_video/episodes", ["median", "best", "worst", 7]),
        ("record_video/side_by_side_episode", 99),
        ("record_video/side_by_side_seconds", 600),
    ],
)
def test_the_bounds_themselves_are_allowed(
    document: dict[str, Any], key: str, value: Any
) -> None:
    check(put(document, key, value))


def test_a_typo_shows_both_halves(document: dict[str, Any]) -> None:
    section = document["pretrain_bc"]
    section["update"] = section.pop("updates")
    message = refusal(document)
    assert message == "pretrain_bc lacks ['updates'] and has unknown ['update']"


@pytest.mark.parametrize(
    ("section", "old", "new", "where"),
    [
        ("recipes/bc-ppo", "gamma", "gama", "recipes.bc-ppo"),
        ("envs/mario/kwargs", "time_limit", "timelimit", "envs.mario.kwargs"),
    ],
)
def test_a_typo_in_what_is_handed_on_shows_both_halves(
    document: dict[str, Any], section: str, old: str, new: str, where: str
) -> None:
    inner = document
    for part in section.split("/"):
        inner = inner[part]
    inner[new] = inner.pop(old)
    assert refusal(document) == f"{where} lacks [{old!r}] and has unknown [{new!r}]"


def test_a_key_that_a_recipe_lacks_is_named(document: dict[str, Any]) -> None:
    recipe = document["recipes"]["teacher"]
    recipe["envs"] = recipe.pop("n_envs")
    assert refusal(document) == (
        "recipes.teacher lacks ['n_envs'] and has unknown ['envs']"
    )
    recipe["n_envs"] = recipe["envs"]
    assert refusal(document) == (
        "recipes.teacher has unknown ['envs']: did you mean n_envs"
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS.values())
def test_no_key_of_an_algorithm_is_taken_for_a_mistyped_one(algorithm: Any) -> None:
    # But for those that have a final_*.
    ours = {k for k in RecipeParams.model_fields if not k.startswith("final_")}
    for key in inspect.signature(algorithm.model).parameters:
        assert not get_close_matches(key, ours, cutoff=0.75)


def test_a_missing_and_an_unknown_key_are_named(document: dict[str, Any]) -> None:
    rate = document["noise"].pop("no_op_max")
    assert refusal(document) == "noise lacks ['no_op_max']"
    document["noise"] |= {"no_op_max": rate, "colour": "pink"}
    assert refusal(document) == "noise has unknown ['colour']"
    del document["noise"]["colour"]
    document["recipes"]["bc-ppo"]["lr"] = 1e-4
    message = refusal(document)
    assert message.startswith("recipes.bc-ppo has unknown ['lr']: it knows algorithm, ")
    assert ", learning_rate, " in message


def test_a_missing_and_an_unknown_section_are_named(document: dict[str, Any]) -> None:
    document["nois"] = document.pop("noise")
    assert refusal(document) == "the file lacks ['noise'] and has unknown ['nois']"


def test_all_that_is_wrong_is_said_at_once(document: dict[str, Any]) -> None:
    put(document, "seed", -1)
    put(document, "record_video/gif_width", 1)
    del document["noise"]["no_op_max"]
    message = refusal(document)
    for part in ("seed = -1: ", "gif_width = 1: ", "noise lacks ['no_op_max']"):
        assert part in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run/seeds": [1, 2, 1]}, "run.seeds = [1, 2, 1]: repeats a value"),
        ({"run/recipes": ["ppo", "ppo"]}, "run.recipes = ['ppo', 'ppo']: repeats"),
        ({"collect_demos/max_tries": 3}, "collect_demos.max_tries is less than its ep"),
        (
            {f"{RECIPE}/batch_size": 100},
            "recipes.bc-ppo: batch_size 100 does not divide the rollout of "
            "n_envs x n_steps = 4096",
        ),
        (
            {"record_video/episodes": ["best", 100]},
            "record_video.episodes: there is no 100, as evaluate.noises.default."
            "episodes is 100, from 0",
        ),
        (
            {"record_video/side_by_side_episode": 100},
            "record_video.side_by_side_episode: there is no 100, as evaluate.noises.",
        ),
        (
            {"run/seeds": [2]},
            "record_video.agents: run has no 'bc-ppo-1', it has random, script, bc, "
            "bc-ppo-2: add -S 'record_video.agents=[bc-ppo-2]'",
        ),
        (
            {"record_video/agents": ["bc_ppo-1"]},
            "record_video.agents: run has no 'bc_ppo-1', it has random, script, bc, "
            "bc-ppo-1: add -S 'record_video.agents=[bc-ppo-1]'",
        ),
        (
            {"run/recipes": ["sac"]},
            "run.recipes: recipes has no 'sac', it has bc-ppo, ppo: add "
            "-S 'run.recipes=[bc-ppo]'",
        ),
        # It is trained in any case.
        ({"run/recipes": ["teacher"]}, "run.recipes: recipes has no 'teacher', it "),
        ({"run/tasks": ["9-1"]}, "run.tasks: envs.mario.tasks has no '9-1', it has "),
        (
            {"envs/mario/tasks/hard": ["1-1", "9-1"], "run/tasks": ["hard"]},
            "envs.mario.tasks.hard has unknown levels ['9-1']: mario has 1-1 to 8-4",
        ),
        (
            {"env": "cartpole"},
            "run.tasks: envs.cartpole.tasks has no '1-1', it has default: add "
            "-S 'run.tasks=[default]'",
        ),
        ({"env": "pong"}, "env is 'pong', but envs has ['mario', 'cartpole']"),
        (
            {f"{RECIPE}/start": "demos"},
            "recipes.bc-ppo: one of cloning and demonstrations belongs to start: demos",
        ),
        ({f"{RECIPE}/critic_warmup": None}, "recipes.bc-ppo lacks critic_warmup"),
        ({f"{RECIPE}/final_ent_coef": None}, "recipes.bc-ppo lacks final_ent_coef"),
        (
            {"evaluate/noises": {"none": QUIET}},
            "evaluate.noises lacks 'default'",
        ),
    ],
)
def test_values_that_do_not_fit_each_other_are_refused(
    document: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    put(document, "collect_demos", {"episodes": 24, "max_tries": 40})
    put(document, "evaluate/noises/default/episodes", 100)
    put(document, f"{RECIPE}/n_envs", 32)
    put(document, f"{RECIPE}/n_steps", 128)
    put(document, "envs/cartpole/tasks", {"default": ["default"]})
    document["recipes"] = {
        name: document["recipes"][name] for name in ("teacher", "bc-ppo", "ppo")
    }
    document["envs"] = {name: document["envs"][name] for name in ("mario", "cartpole")}
    for key, value in changes.items():
        put(document, key, value)
    assert message in refusal(document)


def test_without_a_teacher_there_is_no_clone(document: dict[str, Any]) -> None:
    del document["recipes"]["teacher"]
    assert "recipes lacks 'teacher'" in refusal(document)


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("run/seeds", [1, 1000], "run.seeds.1 = 1000: input should be less than 1000"),
        ("run/seeds", ["2"], "run.seeds.0 = '2': write a whole number"),
        (
            "run/recipes",
            ["ppo", "rm -rf"],
            "run.recipes.1 = 'rm -rf': write letters, digits, - and _",
        ),
        ("run/tasks", ["../1-1"], "run.tasks.0 = '../1-1': write letters, digits"),
        ("record_video/agents", ["../bc"], "record_video.agents.0 = '../bc': write "),
        (
            "record_video/episodes",
            ["medain"],
            "record_video.episodes.0 = 'medain': write median, best, worst or a number",
        ),
        (
            "record_video/side_by_side_episode",
            "../best",
            "record_video.side_by_side_episode = '../best': write median, best, worst",
        ),
    ],
)
def test_what_becomes_part_of_a_command_or_a_path_is_checked(
    document: dict[str, Any], key: str, value: Any, part: str
) -> None:
    message = refusal(put(document, key, value))
    assert message.startswith(part)
    # The list is not empty, only its values are wrong.
    assert "one value or more" not in message


@pytest.mark.parametrize(
    "section", ["envs/mario/tasks", "recipes", "evaluate/noises", "envs"]
)
@pytest.mark.parametrize("name", ["a b", "$(touch x)", "..", "a/b", ""])
def test_a_name_that_becomes_part_of_a_command_or_a_path_is_checked(
    document: dict[str, Any], section: str, name: str
) -> None:
    *_, inner = section.split("/")
    values = document[section.split("/")[0]]
    for part in section.split("/")[1:]:
        values = values[part]
    values[name] = next(iter(values.values()))
    message = refusal(document)
    assert f"{inner}.{name}" in message
    assert "write letters, digits, - and _" in message


def test_the_names_of_the_agents(document: dict[str, Any]) -> None:
    put(document, "run/recipes", ["bc-ppo", "ppo"])
    put(document, "run/seeds", [1, 20])
    put(document, "record_video/agents", ["bc-ppo-20"])
    assert parse_params(document, "params.yaml").agents == [
        "random",
        "script",
        "bc",
        "bc-ppo-1",
        "bc-ppo-20",
        "ppo-1",
        "ppo-20",
    ]


def test_the_levels_of_a_task(document: dict[str, Any]) -> None:
    put(document, "envs/mario/tasks/first", ["1-1", "1-2"])
    params = parse_params(document, "params.yaml")
    assert params.levels("first") == ("1-1", "1-2")


def test_keys_that_no_section_knows_are_the_algorithms(
    document: dict[str, Any],
) -> None:
    recipe = parse_params(document, "params.yaml").recipes["bc-ppo"]
    kwargs = recipe.algorithm_kwargs
    assert kwargs["gamma"] == document["recipes"]["bc-ppo"]["gamma"]
    assert "total_timesteps" not in kwargs


def write(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_rate_of_1e_4_is_a_number(tmp_path: Path) -> None:
    lines = PARAMS.read_text(encoding="utf-8").splitlines()
    at = lines.index("pretrain_bc:")
    rate = next(n for n in range(at, len(lines)) if "learning_rate" in lines[n])
    lines[rate] = "  learning_rate: 1e-4"
    params = load_params(write(tmp_path, "\n".join(lines)))
    assert params.pretrain_bc.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("seed: [1", "params.yaml, line 1: expected ',' or ']', but got"),
        ("", "params.yaml: must hold named sections, got None"),
        ("- 1\n", "params.yaml: must hold named sections, got [1]"),
    ],
)
def test_a_file_that_is_no_params_is_refused(
    tmp_path: Path, text: str, part: str
) -> None:
    with pytest.raises(InputError) as caught:
        load_params(write(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert part in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.yaml: cannot be read"):
        load_params(tmp_path / "absent.yaml")


def test_params_cannot_be_changed() -> None:
    params = load_params(PARAMS)
    with pytest.raises(ValidationError, match="frozen"):
        params.seed = 2
    with pytest.raises(ValidationError, match="frozen"):
        params.noise.no_op_max = 2


def places(document: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """Return where each section, list and value of a document is."""
    for key, inner in document.items() if isinstance(document, dict) else ():
        yield (*path, key)
        yield from places(inner, *path, key)


def sample() -> dict[str, Any]:
    """params.yaml with one of what is there many times: all are checked alike."""
    document = copy.deepcopy(DOCUMENT)
    document["run"] = {"tasks": ["1-1"], "recipes": ["bc-ppo"], "seeds": [1]}
    document["env"], document["record_video"]["agents"] = "mario", ["bc-ppo-1"]
    document["envs"]["mario"]["tasks"] = {"1-1": ["1-1"]}
    document["envs"]["mario"]["reference"] = {"emulator": "fceumm"}
    noises = document["evaluate"]["noises"]
    document["evaluate"]["noises"] = {"default": noises["default"]}
    document["recipes"] = {n: document["recipes"][n] for n in ("teacher", "bc-ppo")}
    return document


WRONG = [None, True, "word", "1e6", "", "a b\n\x1b[2J", [], [1], ["word"], [None], {}]
WRONG += [{"key": 1}, 0, -1, 1.5, 1e6, 1e-9, -1e-9, 1e308, 10**9, 10**30, math.inf]
WRONG += [math.nan, [[1]], [1, 1], ["a b"], [{}]]

PYTHON = re.compile(
    r"[\^$]|\b(tuple|dict|None|True|False|NoneType|mapping|pydantic|pattern|unhashable"
    r"|argument|object|str|int|integer|validation|instance|iterable|class)\b"
)


@pytest.mark.parametrize("place", list(places(sample())), ids=".".join)
def test_any_value_in_any_place_is_valid_or_told_in_one_line(
    place: tuple[str, ...],
) -> None:
    document = sample()
    # What world is not played is not asked.
    unplayed = "cartpole" in place
    # What has not changed is valid.
    with_env = place[0] in ("env", "envs", "noise") and not unplayed
    with_recipes = place[0] == "recipes"
    for value in WRONG:
        wrong = put(copy.deepcopy(document), "/".join(place), value)
        try:
            check(wrong, with_env, with_recipes)
        except InputError as error:
            message = str(error)
            assert message.isprintable()
            assert message.startswith("params.yaml: ")
            words = message.replace(f"{value!r:.80}", "")
            assert not PYTHON.search(words), message
            assert len(message) < 700, message
    inner = document
    for key in place:
        inner = inner[key]
    if isinstance(inner, dict) and not unplayed:
        wrong = copy.deepcopy(document)
        put(wrong, "/".join((*place, "no such key")), 1)
        with pytest.raises(InputError, match="no such key"):
            check(wrong)


@pytest.mark.parametrize("name", ["gail", "rnd"])
def test_a_learned_reward_is_checked(document: dict[str, Any], name: str) -> None:
    section = document["recipes"][name if name == "gail" else "rnd-ppo"][name]
    document["recipes"]["ppo"][name] = dict(section)
    check(document)
    for value, reason in ((0.0, "greater than 0"), (-1.0, "greater than 0")):
        changed = copy.deepcopy(document)
        said = refusal(put(changed, f"recipes/ppo/{name}/weight", value))
        assert said == f"recipes.ppo.{name}.weight = {value}: input should be {reason}"
    lacking = copy.deepcopy(document)
    lacking["recipes"]["ppo"][name]["updats"] = section["updates"]
    del lacking["recipes"]["ppo"][name]["updates"]
    said = refusal(lacking)
    assert said == f"recipes.ppo.{name} lacks ['updates'] and has unknown ['updats']"


def test_what_a_recipe_leaves_out_is_not_in_its_agents_origin() -> None:
    dumped = load_params(PARAMS).recipes["bc-ppo"].model_dump(mode="json")
    assert not {"gail", "rnd", "on_bad_health"} & dumped.keys()
    assert dumped["cloning"] is None
