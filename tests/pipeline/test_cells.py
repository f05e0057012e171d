"""A cell depends on its own recipe, env and task: only what is new runs."""

import shutil
import subprocess
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from tools.pipeline_copy import (
    DVC,
    SMALL,
    copy_repository,
    environment,
    lay_over,
    recorded_stages,
    write_yaml,
)
from warpzone.core.names import UNTRAINED, agent_name, cell, second_tries_of
from warpzone.core.yaml import read_yaml

ROOT = Path(__file__).resolve().parents[2]
REPRO = (*DVC[:2], "tools.repro")

TINY = {
    "total_timesteps": 64,
    "n_envs": 2,
    "n_steps": 16,
    "batch_size": 16,
    "critic_warmup": 0,
    "log_freq": 32,
    "eval_freq": 32,
}


def tiny_params() -> dict[str, Any]:
    """Return params of Mario's that make CartPole's pipeline as small as it can be."""
    document = read_yaml(ROOT / "params.yaml")
    document |= {"seed": 1, "device": "cpu", "torch_threads": 2, "env": "mario"}
    document["envs"]["cartpole"] = {
        "kwargs": {"time_limit": 20},
        "reference": {},
        "tasks": {"default": ["default"], "again": ["default"]},
    }
    document = lay_over(document, read_yaml(ROOT / SMALL))
    document["run"] = {"tasks": ["1-1"], "recipes": ["bc-ppo"], "seeds": [1]}
    recipes = document["recipes"]
    recipes |= {name: recipes[name] | TINY for name in ("teacher", "bc-ppo", "ppo")}
    document["evaluate"]["noises"] = {
        name: {
            "no_op_max": 30,
            "sticky_probability": sticky,
            "sticky_unit": "frame",
            "episodes": 2,
            "reference": False,
            "temperature": None,
        }
        for name, sticky in (("default", 0.25), ("quiet", 0.0))
    }
    document["record_video"] |= {"agents": ["bc-ppo-1"], "episodes": ["median"]}
    document["record_video"] |= {"side_by_side_seconds": 0.2}
    return document


def run_in(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True
    )


def must(folder: Path, *command: str) -> list[str]:
    """Run a command; return the stages that DVC ran."""
    done = run_in(folder, *command)
    assert done.returncode == 0, done.stderr
    lines = (done.stdout + done.stderr).splitlines()
    found = (line.partition("Running stage '")[2] for line in lines)
    return [line.split("'")[0] for line in found if line]


@pytest.fixture
def wide(document: dict[str, Any]) -> dict[str, Any]:
    """Params with several values on each axis."""
    noise = document["evaluate"]["noises"]["default"]
    document["evaluate"]["noises"] = {"default": noise, "none": noise}
    document["run"] = {
        "tasks": ["1-1", "8-4"],
        "recipes": ["bc-ppo", "ppo"],
        "seeds": [1, 20],
    }
    document["record_video"]["agents"] = ["random", "bc", "ppo-20"]
    return document


def resolved(params: dict[str, Any], folder: Path) -> dict[str, list[str]]:
    """By name, what each stage that DVC makes of dvc.yaml writes."""
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / "dvc.yaml", folder)
    write_yaml(folder / "params.yaml", params)
    Repo.init(str(folder), no_scm=True, force=True).close()
    with Repo(str(folder)) as repo:
        return {
            stage.name: sorted(out.def_path for out in stage.outs)  # pyright: ignore[reportAttributeAccessIssue]
            for stage in repo.index.stages
        }


def test_dvc_yaml_names_cells_as_the_library_does(
    wide: dict[str, Any], tmp_path: Path
) -> None:
    stages = resolved(wide, tmp_path)
    del stages["check_params"], stages["compare"]

    env, wanted = "mario", {}

    def outs(*paths: Path) -> list[str]:
        return sorted(path.as_posix() for path in paths)

    def trained(stage: str, task: str, agent: str) -> list[str]:
        return outs(
            cell("models", env, task, agent),
            cell(f"metrics/{stage}", env, task, f"{agent}.csv"),
            cell(f"metrics/{stage}", env, task, f"{agent}.json"),
            cell(f"plots/{stage}", env, task, f"{agent}.csv"),
        )

    for task in ("1-1", "8-4"):
        wanted[f"collect_demos@{task}"] = outs(
            cell("data/demos", env, f"{task}.jsonl"),
            cell("metrics/collect_demos", env, f"{task}.json"),
        )
        wanted[f"train_teacher@{task}"] = trained(
            "train_teacher", task, agent_name("teacher", 1)
        )
        plots = cell("plots/pretrain_bc", env, task)
        wanted[f"pretrain_bc@{task}"] = outs(
            cell("models", env, task, "bc"),
            plots / "rounds.csv",
            plots / "confusion.csv",
            cell("metrics/pretrain_bc", env, f"{task}.json"),
        )
        agents: dict[str, str] = dict.fromkeys(UNTRAINED, "evaluate_untrained")
        agents["bc"] = "evaluate_bc"
        for recipe in ("bc-ppo", "ppo"):
            wanted[f"choose_start@{task}-{recipe}"] = outs(
                cell("models", env, task, "starts", recipe)
            )
            for seed in (1, 20):
                agent = agent_name(recipe, seed)
                agents[agent] = "evaluate"
                wanted[f"train_rl@{task}-{agent}"] = sorted(
                    trained("train_rl", task, agent)
                    + outs(cell("models", env, task, "milestones", agent))
                    + outs(second_tries_of(env, task, agent))
                )
        for agent, stage in agents.items():
            name = task if agent == "bc" else f"{task}-{agent}"
            wanted[f"{stage}@{name}"] = outs(cell("data/episodes", env, task, agent))
        for agent in ("random", "bc", "ppo-20"):
            wanted[f"record_video@{task}-{agent}"] = outs(
                cell("data/videos", env, task, agent),
                cell("metrics/record_video", env, task, f"{agent}.json"),
                cell("plots/record_video", env, task, f"{agent}.gif"),
            )
    assert stages == wanted


def test_two_worlds_share_no_output_but_the_report(
    wide: dict[str, Any], tmp_path: Path
) -> None:
    ours = {path for outs in resolved(wide, tmp_path).values() for path in outs}
    wide["env"] = "cartpole"
    wide["run"]["tasks"] = ["default"]
    theirs = {path for outs in resolved(wide, tmp_path).values() for path in outs}
    assert ours & theirs == {"data/code", "report.html", "report.md"}


def test_a_cell_has_no_params_but_its_own(wide: dict[str, Any], tmp_path: Path) -> None:
    """Of the sections that hold several of a kind, a cell depends on one."""
    resolved(wide, tmp_path)
    with Repo(str(tmp_path)) as repo:
        params = {
            stage.name: {  # pyright: ignore[reportAttributeAccessIssue]
                key for dep in stage.deps for key in getattr(dep, "params", None) or ()
            }
            for stage in repo.index.stages
        }
    common = {"env", "envs.mario.kwargs", "envs.mario.tasks.8-4", "noise"}
    training = common | {"device", "torch_threads"}
    assert params["train_rl@8-4-ppo-20"] == training | {"recipes.ppo"}
    assert params["choose_start@8-4-ppo"] == {"env", "recipes.ppo"}
    assert params["pretrain_bc@8-4"] == training | {"seed", "pretrain_bc"}
    assert params["evaluate@8-4-ppo-20"] == {
        "env",
        "seed",
        "torch_threads",
        "evaluate.noises",
        "envs.mario.kwargs",
        "envs.mario.reference",
        "envs.mario.tasks.8-4",
    }


# ------------------------------------------------------- the pipeline of CartPole


@pytest.fixture(scope="module")
def switched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small pipeline that was switched from Mario to CartPole. To be copied."""
    copy = tmp_path_factory.mktemp("cells") / "copy"
    copy_repository(ROOT, copy)
    write_yaml(copy / "params.yaml", tiny_params())
    must(copy, "git", "commit", "-qam", "Small")

    # What is missing is told, with what to type, before anything is run.
    done = run_in(copy, *DVC, "exp", "run", "-S", "env=cartpole")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line == (
        "error: params.yaml: run.tasks: envs.cartpole.tasks has no '1-1', it has "
        "default, again: add -S 'run.tasks=[default]' (git checkout params.yaml takes "
        "back what was changed)"
    )
    must(copy, "git", "checkout", "-q", "params.yaml")

    switch = ("-S", "env=cartpole", "-S", "run.tasks=[default]")
    stages = must(copy, *DVC, "exp", "run", *switch)
    assert [name.split("@")[0] for name in stages] == [
        "check_params",
        "collect_demos",
        "train_teacher",
        "pretrain_bc",
        "choose_start",
        "train_rl",
        "evaluate_untrained",
        "evaluate_untrained",
        "evaluate_bc",
        "evaluate",
        "record_video",
        "compare",
    ]
    assert must(copy, *REPRO) == []
    return copy


@pytest.fixture
def finished(switched: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(switched, folder, symlinks=True)
    folder.with_name("temporary").mkdir()
    return folder


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "params.yaml"
    params = read_yaml(path)
    edit(params)
    write_yaml(path, params)


def add_recipe(params: dict[str, Any]) -> None:
    recipe = deepcopy(params["recipes"]["ppo"]) | {"gamma": 0.5}
    params["recipes"]["short"] = recipe
    params["run"]["recipes"].append("short")


def add_noise(params: dict[str, Any]) -> None:
    noises = params["evaluate"]["noises"]
    noises["loud"] = noises["quiet"] | {"sticky_probability": 0.5}


ADDITIONS: dict[str, tuple[Callable[[dict[str, Any]], object], set[str]]] = {
    "seed": (
        lambda params: params["run"]["seeds"].append(2),
        {
            "train_rl@default-bc-ppo-2",
            "evaluate@default-bc-ppo-2",
        },
    ),
    "recipe": (
        add_recipe,
        {
            "choose_start@default-short",
            "train_rl@default-short-1",
            "evaluate@default-short-1",
        },
    ),
    "task": (
        lambda params: params["run"]["tasks"].append("again"),
        {
            "collect_demos@again",
            "train_teacher@again",
            "pretrain_bc@again",
            "choose_start@again-bc-ppo",
            "train_rl@again-bc-ppo-1",
            "evaluate_untrained@again-random",
            "evaluate_untrained@again-script",
            "evaluate_bc@again",
            "evaluate@again-bc-ppo-1",
            "record_video@again-bc-ppo-1",
        },
    ),
    "noise": (
        add_noise,
        {
            "evaluate_untrained@default-random",
            "evaluate_untrained@default-script",
            "evaluate_bc@default",
            "evaluate@default-bc-ppo-1",
        },
    ),
    # A task of the env that nobody plays, and a recipe that nobody follows.
    "nothing": (
        lambda params: (
            params["envs"]["cartpole"]["tasks"].update(idle=["default"]),
            params["recipes"]["ppo"].update(gamma=0.1),
        ),
        set(),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("axis", ADDITIONS)
def test_what_is_new_is_to_be_run_and_compare(
    finished: Path, axis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit, new = ADDITIONS[axis]
    change(finished, edit)
    monkeypatch.chdir(finished)
    with Repo() as repo:
        to_do = set(repo.status())
    assert to_do == new | {"check_params"} | ({"compare"} if new else set())


@pytest.mark.slow
def test_a_seed_that_comes_and_goes_leaves_nothing_behind(finished: Path) -> None:
    before = (finished / "dvc.lock").read_bytes()
    params = (finished / "params.yaml").read_bytes()
    report = (finished / "report.md").read_bytes()
    edit, new = ADDITIONS["seed"]
    change(finished, edit)
    assert set(must(finished, *REPRO)) == new | {"check_params", "compare"}
    table = cell("data/episodes", "cartpole", "default", "bc-ppo-2", "default.csv")
    evaluated = (finished / table).read_bytes()
    assert (finished / "report.md").read_bytes() != report

    # DVC alone: compare has the hashes of a clone, but dvc.lock more stages.
    (finished / "params.yaml").write_bytes(params)
    assert must(finished, *DVC, "repro") == ["check_params", "compare"]
    stages = recorded_stages(finished)
    assert stages["compare"] == clone_stages(before)["compare"]
    assert stages.keys() == clone_stages(before).keys() | new
    assert (finished / "report.md").read_bytes() == report
    assert not (finished / table).exists()
    assert (finished / ".leftovers" / table).read_bytes() == evaluated

    # make repro takes them out.
    assert must(finished, *REPRO) == []
    assert (finished / "dvc.lock").read_bytes() == before

    # And nothing is lost: DVC's run cache has it.
    change(finished, edit)
    must(finished, *REPRO)
    assert (finished / table).read_bytes() == evaluated
    assert recorded_stages(finished).keys() == clone_stages(before).keys() | new


def clone_stages(lock: bytes) -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(lock)["stages"]


@pytest.mark.slow
def test_git_sees_no_result_that_dvc_caches(switched: Path) -> None:
    """And DVC writes no .gitignore, of which a failing stage would take lines back."""
    tracked = must_say(switched, "git", "ls-files", "*.gitignore").split()
    found = sorted(
        path.relative_to(switched).as_posix() for path in switched.rglob(".gitignore")
    )
    assert found == sorted(tracked)
    assert must_say(switched, "git", "diff", "--name-only", "--", *tracked) == ""
    status = must_say(switched, "git", "status", "--porcelain", "-uall")
    names = [line[3:] for line in status.splitlines()]
    assert "dvc.lock" in names
    assert not [name for name in names if name.startswith(("models", "data/demos"))]
    assert not [name for name in names if name.startswith(("data/ep", "data/vid"))]


def must_say(folder: Path, *command: str) -> str:
    done = run_in(folder, *command)
    assert done.returncode == 0, done.stderr
    return done.stdout


PAIR = """\
stages:
  ev:
    matrix: {seed: [1, 2]}
    cmd: >-
      mkdir -p data/episodes && echo ${item.seed} > data/episodes/s${item.seed}.csv &&
      test ! -f fail${item.seed}
    outs: ["data/episodes/s${item.seed}.csv"]
"""


@pytest.mark.slow
@pytest.mark.parametrize("ours", [True, False], ids=["ours", "none"])
def test_a_stage_that_fails_takes_nothing_back(tmp_path: Path, ours: bool) -> None:
    """With .gitignore of ours. Where DVC writes it, it does, a bug of DVC 3.67."""
    must_say(tmp_path, "git", "init", "-q")
    must_say(tmp_path, *DVC, "init", "-q")
    if ours:
        shutil.copy(ROOT / ".gitignore", tmp_path)
    (tmp_path / "dvc.yaml").write_text(PAIR)
    (tmp_path / "fail2").touch()
    assert run_in(tmp_path, *DVC, "repro").returncode != 0
    (tmp_path / "fail2").unlink()
    must(tmp_path, *DVC, "repro")
    status = must_say(tmp_path, "git", "status", "--porcelain", "-uall")
    found = [name for name in ("s1.csv", "s2.csv") if name in status]
    # If the second fails, DVC has been mended.
    assert found == ([] if ours else ["s1.csv"])
