"""params.yaml is checked once, and what is wrong is said in one line."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from warpzone.core.errors import InputError
from warpzone.core.params import Params, load_params, parse_params
from warpzone.core.yaml import read_yaml

PARAMS = Path(__file__).resolve().parents[2] / "params.yaml"


@pytest.fixture
def document() -> dict[str, Any]:
    """What params.yaml holds, to change at will."""
    return deepcopy(read_yaml(PARAMS))


def put(document: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Change one value, named as in ``game.reward.death``."""
    *sections, last = key.split(".")
    inner = document
    for section in sections:
        inner = inner[section]
    inner[last] = value
    return document


def refusal(document: Any) -> str:
    with pytest.raises(InputError) as caught:
        parse_params(document, "params.yaml")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("params.yaml: ")
    return message.removeprefix("params.yaml: ")


def test_the_params_of_this_repository_are_valid() -> None:
    assert isinstance(load_params(PARAMS), Params)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("seed", 1000, "less than 1000"),
        ("seed", -1, "greater than or equal to 0"),
        ("seed", 1.0, "valid integer"),
        ("seed", True, "valid integer"),
        ("game.level", "9-1", "match pattern '^[1-8]-[1-4]$'"),
        ("game.action_set", "simpel", "'right_only', 'simple', 'complex' or 'all'"),
        ("game.frame_skip", 0, "greater than or equal to 1"),
        ("game.frame_skip", "4", "valid integer"),
        ("game.height", 35, "greater than or equal to 36"),
        ("game.width", 257, "less than or equal to 256"),
        ("game.frame_stack", 17, "less than or equal to 16"),
        ("game.crop_hud", "yes", "valid boolean"),
        ("game.time_limit", 0, "greater than or equal to 1"),
        ("game.stuck_limit", -1, "greater than or equal to 0"),
        ("game.reward.progress", float("nan"), "finite number"),
        ("game.reward.death", "-1", "valid number"),
        ("noise.no_op_max", 301, "less than or equal to 300"),
        ("noise.sticky_probability", 1.0, "less than 1"),
        ("noise.sticky_probability", -0.1, "greater than or equal to 0"),
        ("collect_demos.episodes", 0, "greater than or equal to 1"),
        ("pretrain_bc.held_out_share", 1, "less than 1"),
        ("pretrain_bc.learning_rate", 0, "greater than 0"),
        ("pretrain_bc.weight_decay", -1e-4, "greater than or equal to 0"),
        ("train_rl.gamma", 1.01, "less than or equal to 1"),
        ("train_rl.envs", 257, "less than or equal to 256"),
        ("train_rl.learning_rate", "1e-4", "valid number"),
        ("train_rl.learning_rate", float("inf"), "finite number"),
        ("evaluate.episodes", 10_001, "less than or equal to 10000"),
        ("evaluate.temperature", -0.5, "greater than or equal to 0"),
        ("record_video.gif_width", 63, "greater than or equal to 64"),
        ("compare.bootstrap_samples", None, "valid integer"),
    ],
)
def test_an_impossible_value_is_named_with_its_key_and_what_is_allowed(
    document: dict[str, Any], key: str, value: Any, reason: str
) -> None:
    message = refusal(put(document, key, value))
    assert message.startswith(f"{key} = {value!r}: ")
    assert reason in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 999),
        ("game.level", "8-4"),
        ("game.stuck_limit", 0),
        ("noise.sticky_probability", 0),
        ("train_rl.gamma", 1),
        ("evaluate.episodes", 10_000),
    ],
)
def test_the_bounds_themselves_are_allowed(
    document: dict[str, Any], key: str, value: Any
) -> None:
    parse_params(put(document, key, value), "params.yaml")


def test_a_typo_shows_both_halves(document: dict[str, Any]) -> None:
    section = document["pretrain_bc"]
    section["update"] = section.pop("updates")
    message = refusal(document)
    assert message == "pretrain_bc lacks ['updates'] and has unknown ['update']"


def test_a_missing_and_an_unknown_key_are_named(document: dict[str, Any]) -> None:
    del document["game"]["reward"]["death"]
    assert refusal(document) == "game.reward lacks ['death']"
    document["game"]["reward"]["death"] = -1.0
    document["noise"]["colour"] = "pink"
    assert refusal(document) == "noise has unknown ['colour']"


def test_a_missing_and_an_unknown_section_are_named(document: dict[str, Any]) -> None:
    document["nois"] = document.pop("noise")
    assert refusal(document) == "the file lacks ['noise'] and has unknown ['nois']"


def test_all_that_is_wrong_is_said_at_once(document: dict[str, Any]) -> None:
    put(document, "seed", -1)
    put(document, "game.width", 1)
    del document["noise"]["no_op_max"]
    message = refusal(document)
    for part in ("seed = -1: ", "game.width = 1: ", "noise lacks ['no_op_max']"):
        assert part in message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("runs.seed", [1, 2, 1], "runs: seed [1, 2, 1] repeats a value"),
        ("runs.init", ["bc", "bc"], "runs: init ['bc', 'bc'] repeats a value"),
        ("collect_demos.max_tries", 3, "max_tries 3 is less than episodes 24"),
        (
            "train_rl.batch_size",
            1000,
            "batch_size 1000 does not divide the rollout of envs x rollout_steps = ",
        ),
        (
            "record_video.agent",
            "bc-seed7",
            "record_video.agent 'bc-seed7' is not among",
        ),
    ],
)
def test_values_that_do_not_fit_each_other_are_refused(
    document: dict[str, Any], key: str, value: Any, message: str
) -> None:
    put(document, "collect_demos.episodes", 24)
    put(document, "train_rl.envs", 16)
    put(document, "train_rl.rollout_steps", 256)
    assert message in refusal(put(document, key, value))


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("runs.seed", [], "runs.seed = []: "),
        ("runs.seed", [1, 1000], "runs.seed.1 = 1000: "),
        ("runs.init", ["bc", "rm -rf"], "runs.init.1 = 'rm -rf': "),
        ("runs.init", "bc", "runs.init = 'bc': "),
        ("record_video.agent", "../bc-seed1", "record_video.agent = '../bc-seed1': "),
    ],
)
def test_what_becomes_part_of_a_command_or_a_path_is_checked(
    document: dict[str, Any], key: str, value: Any, part: str
) -> None:
    assert part in refusal(put(document, key, value))


def test_the_names_of_the_trained_agents(document: dict[str, Any]) -> None:
    put(document, "runs.init", ["bc", "scratch"])
    put(document, "runs.seed", [1, 20])
    put(document, "record_video.agent", "bc-seed20")
    runs = parse_params(document, "params.yaml").runs
    assert runs.names == ["bc-seed1", "bc-seed20", "scratch-seed1", "scratch-seed20"]


def write(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_rate_of_1e_4_is_a_number(tmp_path: Path) -> None:
    lines = PARAMS.read_text(encoding="utf-8").splitlines()
    at = lines.index("train_rl:")
    rate = next(n for n in range(at, len(lines)) if "learning_rate" in lines[n])
    lines[rate] = "  learning_rate: 1e-4"
    assert load_params(write(tmp_path, "\n".join(lines))).train_rl.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("seed: [1", "params.yaml, line 1: what opens here lacks"),
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
        params.game.level = "1-2"
