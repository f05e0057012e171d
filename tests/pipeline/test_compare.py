import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from stages import compare
from warpzone.core.errors import InputError
from warpzone.core.files import write_csv
from warpzone.core.params import Params, RunsParams
from warpzone.episodes.evaluation import COLUMNS

OUTPUTS = [
    Path("metrics/compare.json"),
    Path("plots/compare/agents.csv"),
    Path("plots/compare/agents.png"),
    Path("plots/compare/deaths.png"),
    Path("plots/compare/distance.csv"),
    Path("plots/compare/distance.png"),
    Path("plots/compare/learning.png"),
    Path("report.md"),
]


def write_episodes(agent: str, clears: int, deaths: list[int]) -> Path:
    """Write a table of episodes that clear the level, and of deaths in pits."""
    rows = [
        {
            **dict.fromkeys(COLUMNS, 0),
            "agent": agent,
            "level": "1-1",
            "seed": seed,
            "no_op_max": 30,
            "sticky_probability": 0.25,
            "cleared": seed < clears,
            "x_pos_max": 3161 if seed < clears else deaths[seed - clears],
            "death_x": None if seed < clears else deaths[seed - clears],
            "cause": "clear" if seed < clears else "pit",
        }
        for seed in range(clears + len(deaths))
    ]
    path = Path("data/episodes") / f"{agent}.csv"
    write_csv(path, pd.DataFrame(rows).astype(COLUMNS))
    return path


def write_curve(agent: str) -> None:
    curve = {"agent_steps": [0, 10], "x_pos_max": [None, 300.0]}
    curve["selection_clear_rate"] = [0.5, 0.75]
    write_csv(Path("plots/train_rl") / f"{agent}.csv", pd.DataFrame(curve))


@pytest.fixture
def four_agents(small_workspace: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["compare.py"])
    for agent in ("bc-seed1", "scratch-seed1"):
        write_curve(agent)
    write_episodes("random", 0, [1120, 1110, 300, 300])
    write_episodes("bc", 1, [1120, 1110, 300])
    write_episodes("bc-seed1", 4, [])
    write_episodes("scratch-seed1", 0, [1120, 1110, 1150, 1000])
    # A run that params.yaml no longer names.
    write_episodes("bc-seed9", 4, [])


@pytest.mark.usefixtures("four_agents")
def test_every_named_agent_and_no_other_is_compared() -> None:
    compare.main()
    metrics = json.loads(OUTPUTS[0].read_text())
    assert sorted(metrics) == [
        "bc",
        "bc-seed1",
        "bc-seed1_minus_bc",
        "bc-seed1_minus_scratch-seed1",
        "bc_minus_random",
        "random",
        "scratch-seed1",
        "scratch-seed1_minus_bc",
    ]
    assert metrics["bc"]["clear_rate"] == 0.25
    assert metrics["bc"]["x_pos_max_mean"] == (3161 + 1120 + 1110 + 300) / 4
    assert metrics["bc-seed1_minus_bc"]["clear_rate"] == 0.75
    # (3161 - 300) / 4: only one episode differs.
    assert metrics["bc_minus_random"]["x_pos_max_mean"] == 715.25
    agents = pd.read_csv(OUTPUTS[1])
    assert agents["agent"].tolist() == ["random", "bc", "bc-seed1", "scratch-seed1"]


@pytest.mark.usefixtures("four_agents")
def test_the_report_tells_rates_noise_and_places_of_death() -> None:
    compare.main()
    report = OUTPUTS[-1].read_text()
    assert "# Agents on level 1-1" in report
    assert "0 to 30 idle frames" in report
    assert "0.25" in report
    # Wilson's intervals of 1 and of 4 in 4.
    assert "| bc | 4 | 25% (5% to 70%) | 1,423 (" in report
    assert "| bc-seed1 | 4 | 100% (51% to 100%) | 3,161 (3,161 to 3,161) |" in report
    assert "| bc minus random | +25% (" in report
    # 1110 and 1120 lie in the stretch of 64 pixels from 1088, 300 in the one from 256.
    ends = "| random | 0 | 4 | 0 | 0 | 0 | 0 | pit at 256 to 319 (2), "
    assert ends + "pit at 1,088 to 1,151 (2) |" in report
    assert "| bc-seed1 | 4 | 0 | 0 | 0 | 0 | 0 | none |" in report


@pytest.mark.usefixtures("four_agents")
def test_the_report_links_only_files_that_exist() -> None:
    compare.main()
    links = [part.split(")")[0] for part in OUTPUTS[-1].read_text().split("](")[1:]]
    assert len(links) == 4
    assert all(Path(link).is_file() for link in links)


@pytest.mark.usefixtures("four_agents")
def test_survival_falls_from_one_to_zero_for_every_agent() -> None:
    compare.main()
    curves = pd.read_csv("plots/compare/distance.csv")
    assert list(curves) == ["agent", "x_pos", "share"]
    for _, curve in curves.groupby("agent"):
        share = curve["share"].tolist()
        assert (share[0], share[-1]) == (1, 0)
        assert share == sorted(share, reverse=True)
    at_1120 = curves[curves["x_pos"] == 1120].set_index("agent")["share"]
    assert at_1120.to_dict() == {
        "random": 0.25,
        "bc": 0.5,
        "bc-seed1": 1,
        "scratch-seed1": 0.5,
    }


@pytest.mark.usefixtures("four_agents")
def test_equal_tables_give_equal_bytes() -> None:
    compare.main()
    first = [path.read_bytes() for path in OUTPUTS]
    compare.main()
    assert [path.read_bytes() for path in OUTPUTS] == first


@pytest.mark.usefixtures("four_agents")
def test_a_missing_table_is_named_and_nothing_is_written() -> None:
    Path("data/episodes/scratch-seed1.csv").unlink()
    with pytest.raises(
        InputError, match=r"episodes/scratch-seed1\.csv: .*No such file"
    ):
        compare.main()
    assert not any(path.exists() for path in OUTPUTS)


def test_each_step_of_the_pipeline_is_held_against_the_one_before() -> None:
    assert compare.pairs(RunsParams(init=("bc", "scratch"), seed=(1, 2))) == [
        ("bc", "random"),
        ("bc-seed1", "bc"),
        ("bc-seed2", "bc"),
        ("scratch-seed1", "bc"),
        ("scratch-seed2", "bc"),
        ("bc-seed1", "scratch-seed1"),
        ("bc-seed2", "scratch-seed2"),
    ]
    assert compare.pairs(RunsParams(init=("bc",), seed=(3,))) == [
        ("bc", "random"),
        ("bc-seed3", "bc"),
    ]


@pytest.mark.usefixtures("four_agents")
def test_a_damaged_curve_is_named() -> None:
    path = Path("plots/train_rl/bc-seed1.csv")
    path.write_text("agent_steps\n1\n")
    with pytest.raises(InputError, match=r"bc-seed1\.csv: is not a learning curve"):
        compare.main()
    path.unlink()
    with pytest.raises(InputError, match=r"bc-seed1\.csv: is not a learning curve"):
        compare.main()
