"""What params.yaml no longer names lies where compare does not see it."""

from pathlib import Path
from typing import Any

import pytest

from warpzone.core.leftovers import LEFTOVERS, set_aside
from warpzone.core.params import Params, parse_params

NAMED = [
    "data/episodes/mario/1-1/bc-ppo-1/default.csv",
    "data/episodes/mario/1-1/bc-ppo-1/default.jsonl",
    "data/episodes/mario/1-1/bc/default.csv",
    "data/episodes/mario/1-1/random/default.csv",
    "data/videos/mario/1-1/bc-ppo-1/median.mp4",
    "metrics/train_rl/mario/1-1/bc-ppo-1.csv",
    "metrics/train_rl/mario/1-1/bc-ppo-1.json",
    "plots/pretrain_bc/mario/1-1/confusion.csv",
    "plots/train_rl/mario/1-1/bc-ppo-1.csv",
    "plots/train_rl/mario/1-1/second-tries/bc-ppo-1.csv",
    # Another env's.
    "data/episodes/cartpole/default/bc-ppo-2/default.csv",
    # Of no folder that compare depends on.
    "models/mario/1-1/bc-ppo-2/policy.json",
]
UNNAMED = [
    "data/episodes/mario/1-1/bc-ppo-2/default.csv",
    "data/episodes/mario/1-2/bc/default.jsonl",
    "data/episodes/mario/notes.txt",
    "data/videos/mario/1-1/bc/median.mp4",
    "metrics/train_rl/mario/1-1/bc-ppo-2.csv",
    "metrics/train_rl/mario/1-1/bc-ppo-2.json",
    "plots/pretrain_bc/mario/1-2/rounds.csv",
    "plots/train_rl/mario/1-1/bc-ppo-2.csv",
    "plots/train_rl/mario/1-1/second-tries/bc-ppo-2.csv",
    "plots/train_rl/mario/1-1/teacher-1.csv",
]


@pytest.fixture
def params(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Params:
    """Params of one agent, in a folder with files of many."""
    monkeypatch.chdir(tmp_path)
    for name in NAMED + UNNAMED:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    return parse_params(document, "params.yaml")


def test_only_what_is_not_named_is_set_aside(params: Params) -> None:
    assert set_aside(params) == [Path(name) for name in UNNAMED]
    for name in NAMED:
        assert Path(name).read_text() == name
    for name in UNNAMED:
        assert not Path(name).exists()
        assert (LEFTOVERS / name).read_text() == name


def test_what_is_set_aside_again_takes_the_older_ones_place(params: Params) -> None:
    set_aside(params)
    Path(UNNAMED[0]).write_text("newer")
    assert set_aside(params) == [Path(UNNAMED[0])]
    assert (LEFTOVERS / UNNAMED[0]).read_text() == "newer"


def test_where_nothing_was_run_there_is_nothing_to_do(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert set_aside(params) == []
    assert not LEFTOVERS.exists()
