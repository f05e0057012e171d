import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dvc.repo import Repo

from stages import compare
from warpzone.core.errors import InputError
from warpzone.core.files import write_bytes, write_csv, write_lines
from warpzone.core.params import NoiseParams, Params, parse_params
from warpzone.envs.registry import env_class, make_env
from warpzone.episodes.recording import Recording
from warpzone.episodes.table import columns_of

AGENTS = ["random", "script", "bc", "bc-ppo-1", "ppo-1"]
PLOTS = Path("plots/compare/mario")
METRICS = Path("metrics/compare/mario.json")
REPORT = Path("report.md")
PAGE = Path("report.html")
OUTPUTS = [
    METRICS,
    REPORT,
    PAGE,
    *(PLOTS / f"{n}.csv" for n in ("agents", "differences", "noise", "survival")),
    *(PLOTS / theme / f"{n}.png" for theme in ("light", "dark") for n in compare.WORDS),
]
CONDITIONS = {"default": (30, 0.25), "none": (0, 0.25)}


def write_episodes(
    agent: str,
    successes: int,
    failures: Sequence[int],
    task: str = "1-1",
    noise: str = "default",
    env: str = "mario",
    **changes: Any,
) -> Path:
    """Write a table of episodes that clear the level, and of deaths in pits."""
    columns = columns_of(env_class(env))
    no_op_max, sticky_probability = CONDITIONS[noise]
    rows = [
        {
            **dict.fromkeys(columns, 0),
            "agent": agent,
            "task": task,
            "noise": noise,
            "level": task,
            "seed": seed,
            "no_op_max": no_op_max,
            "sticky_probability": sticky_probability,
            "sticky_unit": "frame",
            "log_sha256": f"{seed:064x}",
            "success": seed < successes,
            "progress": 3161 if seed < successes else failures[seed - successes],
            "place": None if seed < successes else failures[seed - successes],
            "cause": "clear" if seed < successes else "pit",
            **{name: change(seed) for name, change in changes.items()},
        }
        for seed in range(successes + len(failures))
    ]
    path = Path("data/episodes", env, task, agent, f"{noise}.csv")
    write_csv(path, pd.DataFrame(rows).astype(columns))
    recorded = record(env, task if env == "mario" else "default")
    lines = [recorded.model_copy(update={"seed": seed}) for seed in range(len(rows))]
    write_lines(path.with_suffix(".jsonl"), [line.to_json() for line in lines])
    confusion = pd.DataFrame({"actual": ["A", "B"], "predicted": ["A", "A"]})
    write_csv(Path("plots/pretrain_bc", env, task, "confusion.csv"), confusion)
    return path


@cache
def record(env: str, level: str) -> Recording:
    """Record a few agent steps."""
    noise = NoiseParams(no_op_max=0, sticky_probability=0, sticky_unit="frame")
    with closing(make_env(env, {}, level, noise, "state")) as played:
        played.reset(seed=1)
        for _ in range(5):
            played.step(1)
        return Recording.of_episode(played, 1)


def write_curve(agent: str, task: str = "1-1", env: str = "mario") -> Path:
    rows = {"agent_steps": [0, 10, 20], "eval_progress": [100.0, None, 300.0]}
    rows["eval_success_rate"] = [0.5, None, 0.75]
    rows |= {"reward_progress": [None, 1.5, 2.0], "approx_kl": [None, 0.01, 0.02]}
    path = Path("metrics/train_rl", env, task, f"{agent}.csv")
    write_csv(path, pd.DataFrame(rows))
    write_second_tries(agent, [(task, 32, 5), (task, 48, 1), ("8-4", 32, 70)], env)
    return path


def write_second_tries(
    agent: str, rows: list[tuple[str, int, int]], env: str = "mario"
) -> Path:
    task = rows[0][0]
    path = Path("plots/train_rl", env, task, "second-tries", f"{agent}.csv")
    columns = ["level", "progress", "second_tries"]
    write_csv(path, pd.DataFrame(rows, columns=columns))
    return path


def write_task(task: str) -> None:
    """Write the episodes of four agents under two noises, and two learning curves."""
    for agent in AGENTS[3:]:
        write_curve(agent, task)
    write_episodes("random", 0, [1120, 1110, 300, 300], task)
    write_episodes("script", 0, [300, 300, 300, 300], task)
    write_episodes("bc", 1, [1120, 1110, 300], task)
    write_episodes("bc-ppo-1", 4, [], task)
    write_episodes("ppo-1", 0, [1120, 1110, 1150, 1000], task)
    for agent in AGENTS:
        write_episodes(agent, 2, [640, 640], task, "none")


@pytest.fixture
def four_agents(small_workspace: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["compare.py"])
    write_task("1-1")
    # A run that params.yaml no longer names.
    write_episodes("bc-ppo-9", 4, [])


@pytest.fixture(scope="module")
def written() -> dict[Path, bytes]:
    """What comparing four agents writes, as soon as a test has done it."""
    return {}


@pytest.fixture
def compared(four_agents: None, written: dict[Path, bytes]) -> None:
    """Four agents have been compared."""
    if not written:
        compare.main()
        written |= {path: path.read_bytes() for path in OUTPUTS}
    for path, content in written.items():
        write_bytes(path, content)


@pytest.fixture
def two_tasks(
    small_workspace: Params, four_agents: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = small_workspace.model_dump(mode="json")
    document["run"]["tasks"] = ["1-1", "1-2"]
    Path("params.yaml").write_text(json.dumps(document))
    write_task("1-2")
    write_episodes("bc", 4, [], "1-2")


@pytest.mark.usefixtures("compared")
def test_every_named_agent_and_no_other_is_compared() -> None:
    [(task, metrics)] = json.loads(METRICS.read_text()).items()
    assert task == "1-1"
    # DVC shows these, and of each no more than five numbers.
    assert sorted(metrics) == ["bc", "bc-ppo-1", "ppo-1"]
    assert metrics["bc"]["success_rate"] == 0.25
    assert set(map(len, metrics.values())) == {5}
    rows = pd.read_csv(PLOTS / "differences.csv").set_index(["a", "b"])
    assert rows.index.tolist() == [
        ("bc", "random"),
        ("bc", "script"),
        ("bc-ppo-1", "bc"),
        ("ppo-1", "bc"),
        ("bc-ppo-1", "ppo-1"),
    ]
    assert rows["success_rate"].tolist() == [0.25, 0.25, 0.75, -0.25, 1]
    # (3161 - 300) / 4: only one episode differs.
    assert rows["progress_mean"].tolist()[0] == 715.25
    agents = pd.read_csv(PLOTS / "agents.csv")
    assert agents["agent"].tolist() == agents["name"].tolist() == AGENTS
    assert set(agents["noise"]) == {"default"}


@pytest.mark.usefixtures("compared")
def test_every_agent_is_measured_under_every_noise() -> None:
    rows = pd.read_csv(PLOTS / "noise.csv").set_index(["noise", "agent"])
    assert rows.index.tolist() == [(n, a) for n in CONDITIONS for a in AGENTS]
    assert set(rows["task"]) == {"1-1"}
    rates = rows["success_rate"]
    assert rates["default"].tolist() == [0, 0, 0.25, 1, 0]
    assert rates["none"].tolist() == [0.5] * 5


@pytest.mark.usefixtures("compared")
def test_the_report_tells_rates_noise_and_places_of_failures() -> None:
    report = REPORT.read_text()
    assert report.startswith("# Agents of mario: 1-1\n")
    words = " ".join(report.split())
    assert "Every agent plays the same 3 episodes of each task" in words
    assert "0 to 30 idle frames" in words
    assert "in each frame the previous action is held with probability 0.25." in words
    assert "In the condition default the env has emulator nes-py." in words
    # Wilson's intervals of 1 and of 4 in 4.
    assert "| 1-1 | bc | 4 | 25% (5% to 70%) | 1,423 (" in report
    assert (
        "| 1-1 | bc-ppo-1 | 4 | 100% (51% to 100%) | 3,161 (3,161 to 3,161) |" in report
    )
    # Newcombe's interval of 1 in 4 minus 0 in 4, of Wilson's 5 % to 70 % and 0 % to
    # 49 %: 0.25 - sqrt(0.204**2 + 0.490**2) to 0.25 + 0.449.
    row = "| 1-1 | bc minus random | +25% (-28% to +70%) | 1.000 | +715 ("
    assert row in report
    # 1110 and 1120 lie in the stretch of 64 pixels from 1088, 300 in the one from 256.
    ends = "| 1-1 | random | 0 | 4 | 0 | 0 | 0 | 0 | 0 | pit at 256 to 319 (2), "
    assert ends + "pit at 1,088 to 1,151 (2) |" in report
    assert "| 1-1 | bc-ppo-1 | 4 | 0 | 0 | 0 | 0 | 0 | 0 | none |" in report
    # Wilson's interval of 2 in 4.
    half = "50% (15% to 85%)"
    none = "| 1-1 | none | 0 to 0 | 0.25 a frame | as ever | 4 |"
    assert f"{none} {' | '.join([half] * 5)} |" in report
    assert "Each recipe has one training seed: nothing here says how" in words


@pytest.mark.usefixtures("compared")
def test_the_report_is_markdown_that_renders() -> None:
    lines = REPORT.read_text().splitlines()
    # All rows of a table have as many cells as its head.
    for line, head in zip(lines[1:], lines, strict=False):
        if line.startswith("|") and head.startswith("|"):
            assert line.count("|") == head.count("|")
    paragraphs = [line for line in lines if not line.startswith(("|", "!", "#"))]
    assert max(map(len, paragraphs)) <= 88
    assert not any(line.endswith(" ") for line in lines)


@pytest.mark.slow
@pytest.mark.usefixtures("two_tasks")
def test_several_tasks_stand_side_by_side() -> None:
    compare.main()
    metrics = json.loads(METRICS.read_text())
    assert list(metrics) == ["1-1", "1-2"]
    assert metrics["1-1"]["bc"]["success_rate"] == 0.25
    assert metrics["1-2"]["bc"]["success_rate"] == 1
    rows = pd.read_csv(PLOTS / "differences.csv").set_index(["task", "a", "b"])
    rates = rows["success_rate"].to_dict()
    assert rates["1-1", "bc-ppo-1", "bc"] == 0.75
    assert rates["1-2", "bc-ppo-1", "bc"] == 0
    report = REPORT.read_text()
    assert report.startswith("# Agents of mario: 1-1, 1-2\n")
    assert "| 1-1 | bc | 4 | 25% (" in report
    assert "| 1-2 | bc | 4 | 100% (" in report
    # DVC's bars pile up what has one name.
    names = pd.read_csv(PLOTS / "agents.csv")["name"]
    assert names.tolist() == [f"{task} {a}" for task in ("1-1", "1-2") for a in AGENTS]
    curves = pd.read_csv(PLOTS / "survival.csv")
    assert curves.groupby(["task", "agent"]).ngroups == 10


@pytest.mark.usefixtures("compared")
def test_the_report_links_only_files_that_exist() -> None:
    links = [part.split(")")[0] for part in REPORT.read_text().split("](")[1:]]
    assert len(links) == len(compare.WORDS)
    assert all(Path(link).is_file() for link in links)


@pytest.mark.usefixtures("compared")
def test_survival_falls_from_one_to_zero_for_every_agent() -> None:
    curves = pd.read_csv(PLOTS / "survival.csv")
    assert list(curves)[:4] == ["task", "agent", "progress", "share"]
    for _, curve in curves.groupby("agent"):
        share = curve["share"].tolist()
        assert (share[0], share[-1]) == (1, 0)
        assert share == sorted(share, reverse=True)
    at_1120 = curves[curves["progress"] == 1120].set_index("agent")["share"]
    # The script never got so far.
    shares = {"random": 0.25, "bc": 0.5, "bc-ppo-1": 1, "ppo-1": 0.5}
    assert at_1120.to_dict() == shares


@pytest.mark.usefixtures("compared")
@pytest.mark.slow
def test_equal_tables_give_equal_bytes() -> None:
    first = [path.read_bytes() for path in OUTPUTS]
    compare.main()
    assert [path.read_bytes() for path in OUTPUTS] == first


@pytest.mark.slow
def test_what_is_said_of_an_agent_does_not_depend_on_the_others(
    small_workspace: Params, compared: None
) -> None:
    four = pd.read_csv(PLOTS / "noise.csv")
    document = small_workspace.model_dump(mode="json")
    document["run"]["recipes"] = ["ppo"]
    document["record_video"]["agents"] = ["ppo-1"]
    Path("params.yaml").write_text(json.dumps(document))
    compare.main()
    three = pd.read_csv(PLOTS / "noise.csv")
    rest = [row for row in four.to_dict("records") if row["agent"] != "bc-ppo-1"]
    pd.testing.assert_frame_equal(three, pd.DataFrame(rest))


@pytest.mark.usefixtures("four_agents")
@pytest.mark.parametrize("noise", CONDITIONS)
def test_a_missing_table_is_named_and_nothing_is_written(noise: str) -> None:
    Path(f"data/episodes/mario/1-1/ppo-1/{noise}.csv").unlink()
    with pytest.raises(InputError, match=rf"ppo-1/{noise}\.csv: .*No such file"):
        compare.main()
    assert not any(path.exists() for path in OUTPUTS)


@pytest.mark.usefixtures("four_agents")
def test_agents_that_played_other_episodes_are_told() -> None:
    write_episodes("ppo-1", 1, [300, 300])
    with pytest.raises(InputError, match="episodes of ppo-1 and random differ in"):
        compare.main()
    assert not any(path.exists() for path in OUTPUTS)


@pytest.mark.usefixtures("four_agents")
def test_a_table_in_the_place_of_another_agents_is_refused() -> None:
    folder = Path("data/episodes/mario/1-1")
    (folder / "ppo-1/default.csv").write_bytes(
        (folder / "bc-ppo-1/default.csv").read_bytes()
    )
    with pytest.raises(InputError, match="agent cannot be 'bc-ppo-1' in an episode of"):
        compare.main()


def params_of(document: dict[str, Any], recipes: list[str], seeds: list[int]) -> Params:
    document["run"] |= {"recipes": recipes, "seeds": seeds}
    document["record_video"]["agents"] = ["random"]
    return parse_params(document, "params.yaml")


def test_each_step_of_the_pipeline_is_held_against_the_one_before(
    document: dict[str, Any],
) -> None:
    # A training seed is what is repeated, so several make one comparison.
    assert compare.pairs_of(params_of(document, ["bc-ppo", "ppo"], [1, 2])) == [
        ("bc", "random"),
        ("bc", "script"),
        ("bc-ppo-1", "bc"),
        ("bc-ppo-2", "bc"),
        ("ppo-1", "bc"),
        ("ppo-2", "bc"),
        ("bc-ppo", "ppo"),
    ]
    assert compare.pairs_of(params_of(document, ["bc-ppo"], [3])) == [
        ("bc", "random"),
        ("bc", "script"),
        ("bc-ppo-3", "bc"),
    ]


def test_every_two_recipes_are_held_against_each_other(
    document: dict[str, Any],
) -> None:
    document["recipes"]["other"] = document["recipes"]["ppo"]
    three = params_of(document, ["other", "bc-ppo", "ppo"], [1])
    assert compare.pairs_of(three)[-3:] == [
        ("other-1", "bc-ppo-1"),
        ("other-1", "ppo-1"),
        ("bc-ppo-1", "ppo-1"),
    ]


@pytest.mark.parametrize(
    ("ours", "theirs", "pairs"),
    [
        ((["ppo"], [1]), (["ppo"], [1]), [("ppo-1", "ppo-1")]),
        ((["ppo"], [1]), (["ppo"], [1, 2, 3]), [("ppo-1", "ppo-1")]),
        ((["ppo"], [1, 2]), (["ppo"], [3, 4]), [("ppo", "ppo")]),
        ((["ppo"], [1]), (["ppo"], [2]), []),
        # One that the first lacks meets all that it has.
        (
            (["ppo"], [1]),
            (["bc-ppo", "ppo"], [1]),
            [("bc-ppo-1", "ppo-1"), ("ppo-1", "ppo-1")],
        ),
        ((["ppo"], [1, 2]), (["bc-ppo"], [1, 2]), [("bc-ppo", "ppo")]),
    ],
)
def test_revisions_meet_by_recipe(
    document: dict[str, Any], ours: Any, theirs: Any, pairs: list[compare.Pair]
) -> None:
    sides = (params_of(deepcopy(document), *side) for side in (ours, theirs))
    assert compare.pairs_between(*sides) == [("bc", "bc"), *pairs]


@pytest.mark.usefixtures("four_agents")
def test_a_damaged_curve_is_named() -> None:
    path = Path("metrics/train_rl/mario/1-1/bc-ppo-1.csv")
    path.write_text("agent_steps\n1\n")
    with pytest.raises(InputError, match=r"bc-ppo-1\.csv: is not a learning curve"):
        compare.main()
    path.unlink()
    with pytest.raises(InputError, match=r"bc-ppo-1\.csv: is not a learning curve"):
        compare.main()
    assert not any(path.exists() for path in OUTPUTS)


@pytest.mark.usefixtures("four_agents")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "No columns to parse"),
        ("level,progress\n1-1,16\n", "second_tries"),
        ("level,progress,second_tries\n1-1,16\n", "NA"),
        ("level,progress,second_tries\n1-1,16,many\n", "many"),
        ("level,progress,second_tries\n1-1,16,-3\n", "second_tries cannot be -3"),
        ("level,progress,second_tries\n1-1,,3\n", "a field is empty"),
        (None, "No such file"),
    ],
)
def test_a_damaged_table_of_second_tries_is_named(
    text: str | None, reason: str
) -> None:
    path = Path("plots/train_rl/mario/1-1/second-tries/bc-ppo-1.csv")
    path.unlink() if text is None else path.write_text(text)
    named = r"second-tries/bc-ppo-1\.csv: is not a table of second tries: .*"
    with pytest.raises(InputError, match=f"{named}{reason}") as caught:
        compare.main()
    assert "\n" not in str(caught.value)
    assert not any(path.exists() for path in OUTPUTS)


@pytest.mark.slow
@pytest.mark.usefixtures("four_agents")
def test_the_map_has_the_second_tries_of_its_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[dict[str, Any]] = []

    def level_map(explored: Any, agents: Any, tries: Any, *, theme: str) -> bytes:
        told.append({a: t.to_numpy().tolist() for a, t in tries.items()})
        return b""

    monkeypatch.setattr("warpzone.report.comparison.level_map", level_map)
    Path("plots/train_rl/mario/1-1/second-tries/ppo-1.csv").write_text(
        "level,progress,second_tries\n"
    )
    compare.main()
    # Neither the clone nor who learns nothing was trained so.
    assert told == 2 * [{"bc-ppo-1": [["1-1", 32, 5], ["1-1", 48, 1]], "ppo-1": []}]


def test_agents_of_another_world_are_compared_in_its_words(
    small_workspace: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["compare.py"])
    document = small_workspace.model_dump(mode="json")
    document["env"] = "cartpole"
    document["run"] |= {"tasks": ["default"], "recipes": ["ppo"]}
    document["record_video"]["agents"] = ["random"]
    Path("params.yaml").write_text(json.dumps(document))
    write_curve("ppo-1", "default", "cartpole")
    for agent, stood in (
        ("random", [20, 30, 40]),
        ("script", [20, 30, 40]),
        ("bc", [200, 70, 500]),
        ("ppo-1", [500] * 3),
    ):
        for noise in CONDITIONS:
            write_episodes(
                agent,
                0,
                stood,
                "default",
                noise,
                "cartpole",
                success=lambda seed, stood=stood: stood[seed] == 500,
                cause=lambda seed, stood=stood: (
                    "balanced" if stood[seed] == 500 else "fell"
                ),
                place=lambda _: None,
            )
    compare.main()
    metrics = json.loads(Path("metrics/compare/cartpole.json").read_text())
    assert metrics["default"]["bc"]["success_rate"] == pytest.approx(1 / 3, abs=1e-4)
    rows = pd.read_csv("plots/compare/cartpole/agents.csv").set_index("agent")
    means, fell = rows["progress_mean"].to_dict(), rows["ended_by_fell"].to_dict()
    assert means["bc"] == pytest.approx(770 / 3, abs=1e-3)
    assert fell["bc"] == 2
    # The screen shows all of it, so there is no map.
    assert not Path("plots/compare/cartpole/light/map.png").exists()
    report = REPORT.read_text()
    assert "# Agents of cartpole: default\n" in report
    assert "| mean time balanced (agent steps) | IQM | median | time |" in report
    assert "| task | agent | balanced | fell | left | stuck | time limit |" in report
    # Poles have no place, so the time counts: 20, 30 and 40, then 70 and 200.
    assert "| default | random | 0 | 3 | 0 | 0 | 0 | fell at 0 to 63 (3) |" in report
    assert "| fell at 64 to 127 (1), fell at 192 to 255 (1) |" in report
    # It has no reference, and the report speaks of none.
    assert "In the condition" not in report


# ------------------------------------------------------------------ revisions


def change_params(small_workspace: Params, key: str, value: Any) -> None:
    document = small_workspace.model_dump(mode="json")
    place = document
    *path, last = key.split("/")
    for name in path:
        place = place[name]
    place[last] = value
    Path("params.yaml").write_text(json.dumps(document))


@pytest.fixture
def revisions(
    small_workspace: Params, four_agents: None, commit: Callable[[str], None]
) -> None:
    """Two commits: in the second the clone and one agent play other episodes."""
    subprocess.run(["git", "init", "-q"], check=True)
    Repo.init().close()
    commit("before")
    change_params(small_workspace, "recipes/bc-ppo/learning_rate", 1e-5)
    for agent, played in (("bc", (4, [])), ("bc-ppo-1", (3, [300]))):
        write_episodes(agent, *played, log_sha256=lambda seed: f"{seed + 9:064x}")
    commit("after")
    # What is in the workspace counts for nothing.
    write_episodes("bc", 0, [10, 20, 30, 40])


def compare_revisions(monkeypatch: pytest.MonkeyPatch, *revs: str) -> None:
    options = [word for rev in revs for word in ("--rev", rev)]
    monkeypatch.setattr(sys, "argv", ["compare.py", *options])
    compare.main()


@pytest.mark.slow
@pytest.mark.usefixtures("revisions")
def test_revisions_are_compared_by_what_they_changed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compare_revisions(monkeypatch, "before", "after")
    folder = Path("runs/compare/before-after")
    assert capsys.readouterr().out == f"{folder / 'report.html'}\n"
    report = (folder / "report.md").read_text()
    assert report.startswith("# before and after: agents of mario\n")
    assert "| recipes.bc-ppo.learning_rate | 0.0008 | 1e-05 |" in report
    rows = pd.read_csv(folder / "differences.csv")
    assert rows["a"].tolist() == ["after: bc", "after: bc-ppo-1"]
    assert rows["b"].tolist() == ["before: bc", "before: bc-ppo-1"]
    assert rows["success_rate"].tolist() == [0.75, -0.25]
    # The third did the same in both.
    words = " ".join(report.split())
    assert "after: ppo-1 played the same episodes as in before, to the last" in words
    agents = pd.read_csv(folder / "agents.csv")["agent"].tolist()
    assert agents == [
        *(f"before: {agent}" for agent in ("bc", "bc-ppo-1", "ppo-1")),
        *(f"after: {agent}" for agent in ("bc", "bc-ppo-1")),
    ]
    links = [part.split(")")[0] for part in report.split("](")[1:]]
    assert links
    assert all((folder / link).is_file() for link in links)
    # No output of the pipeline.
    assert not any(path.exists() for path in OUTPUTS)


@pytest.mark.usefixtures("revisions")
def test_a_revision_from_before_second_tries_were_counted_has_none(
    monkeypatch: pytest.MonkeyPatch, commit: Callable[[str], None]
) -> None:
    Path("plots/train_rl/mario/1-1/second-tries/bc-ppo-1.csv").unlink()
    Path("plots/train_rl/mario/1-1/second-tries/ppo-1.csv").unlink()
    write_episodes("bc-ppo-1", 4, [])
    commit("old")
    told: list[dict[str, int]] = []

    def level_map(explored: Any, agents: Any, tries: Any, *, theme: str) -> bytes:
        told.append({agent: len(table) for agent, table in tries.items()})
        return b""

    monkeypatch.setattr("warpzone.report.comparison.level_map", level_map)
    compare_revisions(monkeypatch, "old", "after")
    assert told[0] == {
        "old: bc-ppo-1": 0,
        "old: ppo-1": 0,
        "after: bc-ppo-1": 2,
    }
    path = Path("plots/train_rl/mario/1-1/second-tries/ppo-1.csv")
    path.parent.mkdir(exist_ok=True)
    path.write_text("level\n")
    commit("damaged")
    with pytest.raises(InputError, match=rf"^damaged: {path}: is not a table of"):
        compare_revisions(monkeypatch, "damaged", "after")


@pytest.mark.usefixtures("revisions")
def test_revisions_that_changed_no_episode_are_said_to_be_alike(
    small_workspace: Params,
    monkeypatch: pytest.MonkeyPatch,
    commit: Callable[[str], None],
) -> None:
    subprocess.run(["git", "checkout", "-q", "before", "."], check=True)
    change_params(small_workspace, "recipes/bc-ppo/eval_freq", 7)
    commit("alike")
    monkeypatch.setattr(compare.Comparison, "pictures", lambda *_: {})
    compare_revisions(monkeypatch, "before", "alike")
    folder = Path("runs/compare/before-alike")
    report = " ".join((folder / "report.md").read_text().split())
    assert "| recipes.bc-ppo.eval_freq | " in report
    assert "alike: bc, bc-ppo-1, ppo-1 played the same episodes as in before" in report
    assert " minus " not in report
    assert (folder / "report.html").is_file()


@pytest.mark.usefixtures("revisions")
def test_revisions_that_cannot_be_compared_are_told(
    small_workspace: Params,
    monkeypatch: pytest.MonkeyPatch,
    commit: Callable[[str], None],
) -> None:
    def refusal(*revs: str) -> str:
        with pytest.raises(InputError) as caught:
            compare_revisions(monkeypatch, *revs)
        assert "\n" not in str(caught.value)
        assert not Path("runs").exists()
        return str(caught.value)

    assert refusal("before") == "--rev before: give two revisions or more"
    assert refusal("before", "before") == "--rev before: give two revisions or more"
    assert refusal("before", "nowhere").startswith("nowhere: ")
    change_params(small_workspace, "evaluate/noises/default/sticky_probability", 0.5)
    commit("louder")
    assert refusal("before", "louder").startswith(
        "louder cannot be compared with before: evaluate.noises.default is "
    )
    change_params(small_workspace, "seed", 2)
    commit("other")
    assert refusal("before", "other") == (
        "other cannot be compared with before: seed is 2 there and 1 in before"
    )
    change_params(small_workspace, "device", "cpu")
    Path("data/episodes/mario/1-1/bc/none.csv").unlink()
    commit("less")
    assert refusal("before", "less").startswith("less: data/episodes/mario/1-1/bc/none")
    change_params(small_workspace, "seed", "one")
    commit("wrong")
    change_params(small_workspace, "seed", 1)
    assert refusal("before", "wrong").startswith("wrong: params.yaml: seed = 'one'")
