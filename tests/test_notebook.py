"""The analysis notebook, on the episodes of a few agents and DVC's experiments."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dvc.api
import numpy as np
import pandas as pd
import pytest
from dvc.repo import Repo

from notebooks.analysis import app
from warpzone.core.files import write_csv, write_json
from warpzone.core.params import Params
from warpzone.envs.registry import env_class
from warpzone.report.comparison import Comparison

ROOT = Path(__file__).parents[1]
NOTEBOOK = Path("notebooks/analysis.py")
METRICS = Path("metrics/compare/mario.json")
AGENTS = Path("plots/compare/mario/agents.csv")
PLAYED = {
    "random": ("ppes", [600, 500, 400, 300]),
    "script": ("pppp", [900, 900, 900, 900]),
    "bc": ("ccpp", [3161, 3161, 900, 800]),
    "bc-ppo-1": ("cccp", [3161, 3161, 3161, 1500]),
    "ppo-1": ("pppp", [700, 710, 720, 730]),
}
LEARNING_RATE = "recipes.bc-ppo.learning_rate"

type Episodes = Callable[[str, Sequence[int]], pd.DataFrame]


@pytest.fixture
def results(small_workspace: Params, episodes: Episodes) -> Params:
    """What a run leaves: episodes, curves, and the numbers of the report."""
    params = small_workspace
    tables = {
        noise: {
            ("1-1", agent): episodes(*played).assign(agent=agent, noise=noise)
            for agent, played in PLAYED.items()
        }
        for noise in params.evaluate.noises
    }
    for noise, of_agents in tables.items():
        for (task, agent), table in of_agents.items():
            write_csv(Path(f"data/episodes/mario/{task}/{agent}/{noise}.csv"), table)
    for agent in ("bc-ppo-1", "ppo-1"):
        write_training(agent)
    comparison = Comparison(
        world=env_class("mario"),
        conditions={},
        tables=tables,
        recordings={},
        curves={},
        second_tries={},
        confusions={},
        pairs=[],
        level="1-1",
        samples=params.compare.bootstrap_samples,
        seed=params.seed,
    )
    write_json(METRICS, comparison.metrics())
    frames = comparison.frames()
    write_csv(AGENTS, frames["agents"])
    write_csv(AGENTS.with_name("noise.csv"), frames["noise"])
    return params


def write_training(agent: str) -> None:
    """Write what a training leaves: its best evaluation is not its last one."""
    curve = pd.DataFrame(
        {
            "agent_steps": [0, 100, 200, 300],
            "eval_success_rate": [0.25, np.nan, 0.75, 0.0],
            "eval_progress": [900.0, np.nan, 2500.0, 400.0],
            "eval_episodes": [16, np.nan, 16, 16],
            "approx_kl": [np.nan, 0.01, 0.02, 0.3],
            "value_loss": [np.nan, 1.0, 0.5, 2.0],
        }
    )
    evaluated = curve.dropna(subset=["eval_progress"])
    evaluated = evaluated.drop(columns=["approx_kl", "value_loss"])
    write_csv(Path(f"plots/train_rl/mario/1-1/{agent}.csv"), evaluated)
    write_csv(Path(f"metrics/train_rl/mario/1-1/{agent}.csv"), curve)
    summary = {"agent_steps": 300, "best_agent_steps": 200, "ended_by": "collapse"}
    summary |= {"eval_success_rate_start": 0.25, "eval_success_rate_best": 0.75}
    summary |= {"eval_success_rate_final": 0.0}
    write_json(Path(f"metrics/train_rl/mario/1-1/{agent}.json"), summary)


def run(**values: Any) -> dict[str, Any]:
    """Run the notebook as a script does; return what its cells define."""
    _, defined = app.run(defs=values)
    return dict(defined)


def refusal() -> str:
    """Run the notebook, which has to fail; return the line that it ends with."""
    with pytest.raises(SystemExit) as ended:
        run()
    assert isinstance(ended.value.code, str)
    assert "\n" not in ended.value.code
    return ended.value.code


def test_marimo_finds_nothing_wrong_with_the_notebook() -> None:
    command = [sys.executable, "-m", "marimo", "check", "--strict", str(NOTEBOOK)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_missing_episodes_are_one_line_that_says_what_to_do(
    small_workspace: Params,
) -> None:
    told = "error: data/episodes/mario/1-1/random/default.csv: there are no episodes: "
    assert refusal().startswith(f"{told}`make repro` plays them, `make pull` fetches")


@pytest.mark.usefixtures("results")
def test_the_numbers_are_those_of_the_report(
    capsys: pytest.CaptureFixture[str],
) -> None:
    summaries = run()["summaries"]
    rows = pd.read_csv(AGENTS).set_index("agent")
    assert {a: of["success_rate"] for a, of in summaries.items()} == {
        **{"random": 0, "script": 0, "bc": 0.5, "bc-ppo-1": 0.75, "ppo-1": 0}
    }
    for agent, of in summaries.items():
        for name in ("success_rate", "progress_iqm", "progress_mean_high"):
            assert of[name] == pytest.approx(rows[name][agent], rel=1e-5)
    said = capsys.readouterr().out
    # Wilson's interval of 3 in 4.
    assert re.search(r"bc-ppo-1 +4 75% \(30% to 95%\) ", said)
    assert re.search(r"They are: \d{3} numbers equal those of plots/compare/", said)


@pytest.mark.usefixtures("results")
def test_a_changed_report_is_told() -> None:
    metrics = json.loads(METRICS.read_text())
    metrics["1-1"]["bc-ppo-1"]["success_rate"] = 0.5
    write_json(METRICS, metrics)
    told = f"error: {METRICS}: success_rate of bc-ppo-1 is 0.5, but 0.75 in the"
    assert refusal() == f"{told} episodes: `make repro` makes both again"


@pytest.mark.usefixtures("results")
def test_a_report_that_lacks_an_agent_is_told() -> None:
    rows = pd.read_csv(AGENTS).set_index("agent")
    write_csv(AGENTS, rows.drop(index="bc").reset_index())
    assert refusal().startswith(f"error: {AGENTS}: episodes of bc is nan, but 4.0 in")


@pytest.mark.usefixtures("results")
def test_changed_episodes_are_told(episodes: Episodes) -> None:
    table = episodes("cccc", [3161] * 4).assign(agent="ppo-1")
    write_csv(Path("data/episodes/mario/1-1/ppo-1/default.csv"), table)
    told = f"error: {AGENTS}: success_rate of ppo-1 is 0.0, but 1.0 in the episodes"
    assert refusal().startswith(told)


@pytest.mark.usefixtures("results")
def test_other_bootstrap_samples_are_no_error() -> None:
    low = pd.read_csv(AGENTS).set_index("agent")["progress_mean_low"]
    other = run(samples=300, seed=7)["summaries"]["bc-ppo-1"]["progress_mean_low"]
    assert other != pytest.approx(low["bc-ppo-1"], rel=1e-5)


@pytest.mark.usefixtures("results")
def test_other_choices_of_the_menus(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = {"task": "1-1", "condition": "none", "one": "bc", "other": "ppo-1"}
    defined = run(**{key: SimpleNamespace(value=v) for key, v in chosen.items()})
    assert defined["difference"]["success_rate"] == 0.5
    said = capsys.readouterr().out
    assert "numbers equal those of plots/compare/mario/noise.csv." in said
    assert "bc minus ppo-1" in said


@pytest.mark.usefixtures("results")
def test_a_trained_agent_is_held_against_random_play(
    capsys: pytest.CaptureFixture[str],
) -> None:
    difference = run()["difference"]
    assert difference["success_rate"] == 0.75
    assert difference["progress_mean"] == (3 * 3161 + 1500) / 4 - 450
    # 1 of the 70 splits of 8 values is as extreme, at either end.
    assert difference["progress_p"] == pytest.approx(2 / 70)
    said = capsys.readouterr().out
    assert "bc-ppo-1 minus random" in said
    assert re.search(r"success rate +\+75% \(", said)


@pytest.mark.usefixtures("results")
def test_what_a_training_kept_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    run()
    said = capsys.readouterr().out
    row = r"bc-ppo-1 +3 +25% +75% +0% +75% +200 +300 +collapse"
    assert re.search(row, said)
    assert "With one training seed the interval is about that agent" in said


def test_without_experiments_one_sentence_says_how_to_make_one(
    results: Params, commit: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    begin(results, commit)
    run()
    told = "There is 1 result of bc-ppo-1: nothing to compare. `dvc exp run -S "
    assert told in capsys.readouterr().out


def test_without_git_one_sentence_says_so(
    results: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    run()
    said = capsys.readouterr().out
    assert "There is no result of bc-ppo-1: nothing to compare. DVC says: " in said
    assert "No git repository was found" in said


def test_experiments_are_compared_by_the_parameters_that_differ(
    results: Params, commit: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    document = begin(results, commit)
    numbers = METRICS.read_text()
    for name, rate, success in (("low", 1e-5, 0.0), ("high", 1e-2, 0.25)):
        document["recipes"]["bc-ppo"]["learning_rate"] = rate
        write_json(Path("params.yaml"), document)
        metrics = json.loads(numbers)
        of = metrics["1-1"]["bc-ppo-1"]
        of |= {"success_rate": success, "success_rate_high": success + 0.125}
        of |= {"success_rate_low": 0.0}
        write_json(METRICS, metrics)
        dvc.api.exp_save(name)
        subprocess.run(["git", "checkout", "-q", "."], check=True)

    defined = run()

    assert defined["differing"] == [LEARNING_RATE]
    table = defined["experiments"].set_index("name")
    assert table["success_rate"][["low", "high"]].tolist() == [0.0, 0.25]
    assert table[LEARNING_RATE][["low", "high"]].tolist() == [1e-5, 1e-2]
    assert len(table) == 3
    said = capsys.readouterr().out
    assert re.search(r"low +0.00001 +0% \(0% to 12%\)", said)
    assert re.search(r"high +0.01000 +25% \(0% to 38%\)", said)


def begin(params: Params, commit: Callable[[str], None]) -> dict[str, Any]:
    """Commit the results in a repository of git and DVC; return params.yaml."""
    subprocess.run(["git", "init", "-q"], check=True)
    Repo.init().close()
    Path(".gitignore").write_text("/data/\n")
    Path("dvc.yaml").write_text(f"params: [params.yaml]\nmetrics: [{METRICS}]\n")
    document = params.model_dump(mode="json")
    write_json(Path("params.yaml"), document)
    commit("first")
    return document


@pytest.mark.usefixtures("results")
def test_the_notebook_writes_nothing() -> None:
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    run()
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


@pytest.mark.slow
@pytest.mark.usefixtures("results")
def test_as_a_script_it_fails_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = [sys.executable, str(ROOT / NOTEBOOK)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "They are: " in done.stdout
    Path("data/episodes/mario/1-1/bc/default.csv").unlink()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("error: data/episodes/mario/1-1/bc/default.csv: there are")
