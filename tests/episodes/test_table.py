"""The table of episodes: what it says of agents, and what is refused."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest

from warpzone.core.errors import InputError
from warpzone.core.files import write_csv
from warpzone.envs.registry import env_class
from warpzone.episodes.table import (
    COLUMNS,
    Score,
    causes_of,
    check_comparable,
    columns_of,
    read_episodes,
)

MARIO, CARTPOLE = env_class("mario"), env_class("cartpole")
type Episodes = Callable[[str, Sequence[int]], pd.DataFrame]

CELL = {"agent": "random", "task": "1-1", "noise": "default"}


def test_each_world_has_its_causes_and_columns() -> None:
    limits = ("stuck", "time_limit")
    assert causes_of(CARTPOLE) == ("balanced", "fell", "left", *limits)
    assert list(columns_of(CARTPOLE)) == list(COLUMNS)
    assert list(columns_of(MARIO)) == [*COLUMNS, "score", "coins", "time"]


def test_a_score_is_a_table_in_short(episodes: Episodes) -> None:
    score = Score.of(episodes("ccps", [3000, 3000, 400, 600]))
    assert score == Score(success_rate=0.5, progress=1750, episodes=4)
    assert (score.successes, score.episodes) == (2, 4)
    # 10 + 20 + 30 + 40 steps of four frames.
    assert (score.agent_steps, score.emulator_frames) == (100, 400)
    # Wilson's interval of 2 in 4, by its formula with z = 1.96.
    assert score.interval == pytest.approx((0.1500, 0.8500), abs=1e-4)


def test_the_higher_success_rate_wins_then_the_longer_way() -> None:
    often = Score(success_rate=0.5, progress=900, episodes=2)
    far = Score(success_rate=0.25, progress=3000, episodes=4)
    further = Score(success_rate=0.25, progress=3001, episodes=1)
    assert sorted([often, further, far]) == [far, further, often]


def test_a_table_survives_its_file(tmp_path: Path, episodes: Episodes) -> None:
    path = tmp_path / "default.csv"
    table = episodes("cpes", [3000, 1000, 400, 600])
    write_csv(path, table)
    pd.testing.assert_frame_equal(read_episodes(path, MARIO, **CELL), table)


def test_line_ends_and_mark_of_another_system_are_read(
    tmp_path: Path, episodes: Episodes
) -> None:
    path = tmp_path / "default.csv"
    table = episodes("cpes", [3000, 1000, 400, 600])
    write_csv(path, table)
    text = "\ufeff" + path.read_text().replace("\n", "\r\n")
    path.write_bytes(text.encode())
    pd.testing.assert_frame_equal(read_episodes(path, MARIO, **CELL), table)


def test_a_failure_without_a_place_is_no_damage(
    tmp_path: Path, episodes: Episodes
) -> None:
    path = tmp_path / "default.csv"
    table = episodes("s", [17])[list(COLUMNS)].assign(cause="fell", task="default")
    write_csv(path, table)
    read = read_episodes(path, CARTPOLE, agent="random", task="default")
    assert read["cause"].tolist() == ["fell"]
    assert read["place"].isna().tolist() == [True]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text[:-1], "line 5: the file ends within it"),
        (lambda text: text[:-20], "line 5: the file ends within it"),
        (lambda text: text[:-20] + "\n", "line 5: is not an episode"),
        (lambda text: "", "line 1: the file ends within it"),
        (lambda text: "\n", "line 1: is not an episode"),
        (lambda text: text.splitlines()[0] + "\n", "line 1: no episode follows"),
        (lambda text: text.replace("progress", "x"), "line 1: has the columns"),
        (lambda text: text.replace("default,1-1", "\n", 1), "line 2: "),
        (lambda text: text.replace("3000", "nan", 1), "line 2: progress cannot be nan"),
        (lambda text: text.replace("3000", "inf", 1), "line 2: progress cannot be inf"),
        (lambda text: text.replace("400", "9" * 400, 1), "line 4: progress cannot"),
        (
            lambda text: text.replace("1-1,2,", f"1-1,{'9' * 400},"),
            "line 4: is not an episode",
        ),
        (lambda text: text.replace("1-1,2,", "1-1,,"), "line 4: is not an episode"),
        (
            lambda text: text.replace("1-1,2,", "1-1,1,"),
            "line 4: seed cannot be 1 again",
        ),
        (lambda text: text.replace("400", "400,7"), "line 4: is not an episode: .*saw"),
        (
            lambda text: text.replace("random", "bc"),
            "line 2: agent cannot be 'bc' in an episode of random 1-1 default",
        ),
        (
            lambda text: text.replace("random,1-1", "random,1-2"),
            "line 2: task cannot be '1-2'",
        ),
        (
            lambda text: text.replace("default", "none"),
            "line 2: noise cannot be 'none'",
        ),
        (lambda text: text.replace("pit", "hole"), "line 3: cause cannot be 'hole'"),
        (lambda text: text.replace("pit", "fell"), "line 3: cause cannot be 'fell'"),
        (lambda text: text.replace("True", "False"), "line 2: success cannot be"),
        (lambda text: text.replace("stuck,", "stuck,3"), "line 5: place cannot be"),
        (lambda text: text.replace("enemy,400", "enemy,"), "line 4: place cannot be"),
        (lambda text: text.replace("3000", "far"), "line 2: is not an episode: .*far"),
    ],
)
def test_a_damaged_table_is_refused_in_one_line(
    tmp_path: Path, change: Callable[[str], str], reason: str, episodes: Episodes
) -> None:
    path = tmp_path / "default.csv"
    write_csv(path, episodes("cpes", [3000, 1000, 400, 600]))
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=reason) as caught:
        read_episodes(path, MARIO, **CELL)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_table_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: cannot be read: No such file"):
        read_episodes(tmp_path / "none.csv", MARIO, **CELL)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("sticky_probability", 0.5),
        ("sticky_unit", "decision"),
        ("no_op_max", 3),
        ("level", "1-2"),
        ("seed", 7),
    ],
)
def test_agents_that_played_other_episodes_are_not_compared(
    column: str, value: object, episodes: Episodes
) -> None:
    tables = {"random": episodes("ee", [1, 2]), "bc": episodes("ee", [1, 2])}
    check_comparable(tables)
    tables["bc"][column] = value
    with pytest.raises(InputError, match=f"bc and random differ in {column}"):
        check_comparable(tables)


def test_agents_of_different_numbers_of_episodes_are_not_compared(
    episodes: Episodes,
) -> None:
    tables = {"random": episodes("ee", [1, 2]), "bc": episodes("e", [1])}
    with pytest.raises(InputError, match=r"level: 1 episodes .* and 2 episodes"):
        check_comparable(tables)
