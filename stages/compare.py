"""Compare all agents: numbers, pictures and a report.

Reads data/episodes/ENV/TASK/AGENT/NOISE.csv of every task, agent and noise that
params.yaml names, default.jsonl beside it, metrics/train_rl/ENV/TASK/AGENT.csv, where
second tries began in plots/train_rl/ENV/TASK/second-tries/AGENT.csv,
plots/pretrain_bc/ENV/TASK/confusion.csv and data/videos/ENV/TASK/AGENT/. Writes
metrics/compare/ENV.json (what DVC shows), plots/compare/ENV/{agents,differences,noise,
survival}.csv, the pictures in plots/compare/ENV/light/ and dark/, report.md,
report.html, one file with everything inside, and a card of each model in
models/ENV/cards/.

With --rev A --rev B it writes nothing but runs/compare/A-B/: the same report of the
agents of revisions or experiments, how their params differ, and what that changed.
"""

import platform
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from warpzone.core.errors import InputError
from warpzone.core.files import (
    one_line,
    write_bytes,
    write_csv,
    write_json,
    write_text,
)
from warpzone.core.names import (
    BASELINES,
    NOISE,
    PARAMS,
    UNTRAINED,
    agent_name,
    cell,
    second_tries_of,
)
from warpzone.core.params import Params, load_params
from warpzone.core.revisions import checkout, commit_of, reading
from warpzone.core.stage import read_arguments, run_stage
from warpzone.envs.registry import env_class
from warpzone.episodes.recording import read_recordings
from warpzone.episodes.table import check_comparable, read_episodes
from warpzone.report.comparison import Comparison
from warpzone.report.look import Key, recipe_of
from warpzone.report.pages import (
    Film,
    Part,
    Picture,
    Section,
    Table,
    to_html,
    to_markdown,
)

type Pair = tuple[str, str]

METRICS = Path("metrics/compare")
PLOTS = Path("plots/compare")
REVISIONS = Path("runs/compare")
PACKAGES = ("dvc", "gymnasium", "nes-py", "numpy", "stable-baselines3", "torch")
WORDS = {
    "agents": "Success rate and mean progress of each agent",
    "survival": "Share of the episodes that got at least so far",
    "learning": "Progress and success rate in evaluation while training",
    "training": "What each term of the reward paid in training, and the stages of "
    "curricula",
    "confusion": "What the clone did on held-out episodes, against what it should",
    "conditions": "Success rate of each agent in each condition",
    "noise": "Success rate under more and less noise",
    "map": "The level, the ways of each agent on it, where it failed, and where its "
    "second tries in training began",
    "deaths": "How many episodes failed where, by cause",
    "actions": "How often each agent chose each action",
}
"""What each picture shows."""


def main() -> None:
    params, arguments = read_arguments(__doc__, add_options=add_options)
    if arguments.rev:
        compare_revisions(list(dict.fromkeys(arguments.rev)))
        return
    comparison = Comparison(
        world=env_class(params.env),
        conditions=conditions_of(params),
        **read(params, Path(), params.agents),
        pairs=pairs_of(params),
        level=params.levels(params.run.tasks[0])[0],
        samples=params.compare.bootstrap_samples,
        seed=params.seed,
    )
    films = [
        Film(path, f"The same noise for random, bc and {agent}, on {task}")
        for task in params.run.tasks
        for agent in params.record_video.agents
        for path in [cell("data/videos", params.env, task, agent, "side-by-side.mp4")]
        if path.exists()
    ]
    write_json(METRICS / f"{params.env}.json", comparison.metrics())
    pictures = write_plots(PLOTS / params.env, comparison)
    for task in params.run.tasks:
        for agent in params.agents:
            if agent not in UNTRAINED:
                card = to_markdown(
                    f"{agent} on {task}", describe(comparison, params, task, agent)
                )
                write_text(
                    cell("models", params.env, "cards", f"{task}-{agent}.md"), card
                )
    title = f"Agents of {params.env}: {', '.join(params.run.tasks)}"
    said = sections(comparison, params, pictures, films)
    said.append(Section("How this was made", made(params)))
    write_text(Path("report.md"), to_markdown(title, said))
    write_text(Path("report.html"), to_html(title, said))


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--rev",
        action="append",
        metavar="REV",
        help="a commit, branch, tag or experiment to compare; twice or more",
    )


def write_plots(folder: Path, comparison: Comparison) -> dict[str, Path]:
    """Write tables, and pictures light and dark; return where the light ones are."""
    drawn = {theme: comparison.pictures(theme) for theme in ("light", "dark")}
    for name, frame in comparison.frames().items():
        write_csv(folder / f"{name}.csv", frame)
    for theme, pngs in drawn.items():
        for name, png in pngs.items():
            write_bytes(folder / theme / f"{name}.png", png)
    return {name: folder / "light" / f"{name}.png" for name in drawn["light"]}


def read(
    params: Params, root: Path, agents: Iterable[str], prefix: str = ""
) -> dict[str, Any]:
    """Read what agents did, from a folder that has the paths of the repository.

    Returns:
        Arguments of `Comparison`. Agents are called by the prefix and their name.

    Raises:
        InputError: If a file is missing or damaged, or agents played other episodes.
    """
    world, agents = env_class(params.env), list(agents)

    def at(folder: str, *names: str) -> Path:
        return root / cell(folder, params.env, *names)

    keys = [(task, agent) for task in params.run.tasks for agent in agents]
    tables: dict[str, dict[Key, pd.DataFrame]] = {
        noise: {
            (task, prefix + agent): read_episodes(
                at("data/episodes", task, agent, f"{noise}.csv"),
                world,
                agent=agent,
                task=task,
                noise=noise,
            )
            for task, agent in keys
        }
        for noise in params.evaluate.noises
    }
    check(tables)
    return {
        "tables": tables,
        "recordings": {
            (task, prefix + agent): read_recordings(
                at("data/episodes", task, agent, f"{NOISE}.jsonl")
            )
            for task, agent in keys
        },
        "curves": {
            (task, prefix + agent): read_curve(
                at("metrics/train_rl", task, f"{agent}.csv")
            )
            for task, agent in keys
            if agent not in BASELINES
        },
        "second_tries": {
            (task, prefix + agent): read_second_tries(
                root / second_tries_of(params.env, task, agent)
            )
            for task, agent in keys
            if agent not in BASELINES
        },
        "confusions": {
            prefix + task: read_confusion(
                at("plots/pretrain_bc", task, "confusion.csv")
            )
            for task in params.run.tasks
        },
    }


def check(tables: Mapping[str, Mapping[Key, pd.DataFrame]]) -> None:
    """Check that all agents of a task played the same episodes in each condition.

    Raises:
        InputError: If two of them did not.
    """
    for of_condition in tables.values():
        for task in dict.fromkeys(task for task, _ in of_condition):
            check_comparable(
                {
                    agent: of_condition[t, agent]
                    for t, agent in of_condition
                    if t == task
                }
            )


def read_curve(path: Path) -> pd.DataFrame:
    columns = ["agent_steps", "eval_progress", "eval_success_rate"]
    try:
        # Those of the reward and of the curriculum are there if it has any.
        curve = pd.read_csv(path, dtype=dict.fromkeys(columns, float))
        more = curve.filter(regex="^(reward|curriculum)_").astype(float)
        return curve[columns].join(more)
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{path}: is not a learning curve: {one_line(error)}"
        ) from error


def read_second_tries(path: Path) -> pd.DataFrame:
    types: Any = {"level": "str", "progress": "float64", "second_tries": "int64"}
    try:
        table = pd.read_csv(path, usecols=list(types), dtype=types)
        least = table["second_tries"].to_numpy().min(initial=1)
        if least < 1:
            raise ValueError(f"second_tries cannot be {least}")
        if table.isna().to_numpy().any():
            raise ValueError("a field is empty")
        return table
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(
            f"{path}: is not a table of second tries: {one_line(error)}"
        ) from error


def read_confusion(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, usecols=["actual", "predicted"], dtype=str)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: is no table of decisions: {one_line(error)}"
        ) from error


def conditions_of(params: Params) -> dict[str, dict[str, Any]]:
    return {name: c.model_dump() for name, c in params.evaluate.noises.items()}


def pairs_of(params: Params) -> list[Pair]:
    """Return what to hold against each other: does each step of the pipeline help?

    The clone against those that learn nothing, each trained agent against the clone,
    and the recipes against each other.
    """
    trained = [(agent, "bc") for agent in params.agents if agent not in BASELINES]
    recipes = combinations(params.run.recipes, 2)
    return [
        *(("bc", name) for name in UNTRAINED),
        *trained,
        *over_seeds(recipes, params, params),
    ]


def pairs_between(ours: Params, theirs: Params) -> list[Pair]:
    """Return what they trained to hold against what we did.

    The clones, and what has one name; a recipe that we lack against all of ours.
    """
    recipes = [
        (recipe, other)
        for recipe in theirs.run.recipes
        for other in ours.run.recipes
        if other == recipe or recipe not in ours.run.recipes
    ]
    return [("bc", "bc"), *over_seeds(recipes, theirs, ours)]


def over_seeds(recipes: Iterable[Pair], a: Params, b: Params) -> list[Pair]:
    """Return pairs of recipes; of agents if one of them has no second seed."""
    if min(len(a.run.seeds), len(b.run.seeds)) > 1:
        return list(recipes)
    return [
        (agent_name(one, seed), agent_name(other, seed))
        for one, other in recipes
        for seed in a.run.seeds
        if seed in b.run.seeds
    ]


def sections(
    comparison: Comparison,
    params: Params,
    pictures: Mapping[str, Path],
    films: Sequence[Film] = (),
) -> list[Section]:
    """Return the report; ``pictures`` says where each was written."""

    def shown(*names: str) -> list[Part]:
        return [Picture(pictures[n], WORDS[n]) for n in names if n in pictures]

    told = [
        Section(
            "How well they play",
            [
                comparison.introduction(params.world.reference),
                comparison.agents_table(),
                *shown("agents", "survival"),
                *comparison.recipes_parts(),
                *films,
            ],
        ),
        Section(
            "What helps",
            [*comparison.differences_parts(), comparison.power_words()],
        ),
        Section("How they learned", shown("learning", "training", "confusion")),
        Section(
            "Under other conditions",
            [
                comparison.conditions_words(),
                comparison.conditions_table(),
                *shown("conditions", "noise"),
            ],
        ),
        Section(
            "Where they go and how they end",
            [
                *shown("map"),
                comparison.ends_words(),
                comparison.ends_table(),
                *shown("deaths"),
            ],
        ),
        Section("What they do", shown("actions")),
    ]
    return [section for section in told if section.parts]


def describe(
    comparison: Comparison, params: Params, task: str, agent: str
) -> list[Section]:
    """Return the card of a model."""
    folder = cell("models", params.env, task, agent)
    how = "the stage pretrain_bc: a clone of the teacher, then DAgger"
    if agent not in BASELINES:
        recipe = recipe_of(agent)
        how = f"the recipe {recipe}: {params.recipes[recipe].algorithm}"
        how += f", started from {params.recipes[recipe].start}"
    kwargs = ", ".join(f"{key} {value}" for key, value in params.world.kwargs.items())
    levels = ", ".join(params.levels(task))
    return [
        Section(
            "What it is",
            [
                f"A policy for the env {params.env}, levels {levels}: "
                "policy.safetensors has the weights, policy.json what it sees, how it "
                "chooses actions and what it was made from. No file of it can run code."
            ],
        ),
        Section(
            "How it was made",
            [f"By {how}. The env has {kwargs}.", *made(params)],
        ),
        Section(
            "How it plays",
            [
                "Success rates with 95 % intervals, about this very agent in new "
                "episodes.",
                comparison.card_table(task, agent),
            ],
        ),
        Section(
            "How to load it",
            [
                "From the root of the repository, after dvc pull or make repro: from "
                "warpzone.agents.model import load_agent, then "
                f"load_agent(Path('{folder}')). The README plays episodes with it."
            ],
        ),
        Section(
            "Limits",
            [
                "It was trained on these levels and under one kind of noise. On other "
                "levels, with another frame size or action set, or under much more "
                "noise it does not play as well, or not at all. One training seed says "
                "little about its recipe."
            ],
        ),
    ]


def made(params: Params) -> list[Part]:
    """Say how the report was made; nothing that differs between two equal runs."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return [
        f"By dvc repro, with the seed {params.seed}, from params.yaml and the code "
        "that data/code/ names; dvc.lock has the hash of every input and output, and "
        "git log -1 -- dvc.lock names the commit. "
        f"Packages: {packages}. metrics/costs/ has the machine and the seconds of each "
        "stage. Another run of the same commit gives the same bytes.",
    ]


def compare_revisions(revs: Sequence[str]) -> None:
    """Write a report of the agents of several revisions.

    Raises:
        InputError: If a revision is unknown or lacks a file, or if they have nothing in
            common that could be compared.
    """
    if len(revs) < 2:
        raise InputError(f"--rev {revs[0]}: give two revisions or more")
    with TemporaryDirectory() as temporary:
        roots = {rev: Path(temporary, str(i)) for i, rev in enumerate(revs)}
        params = {rev: fetch_params(rev, root) for rev, root in roots.items()}
        first, *others = revs
        for rev in others:
            check_alike(first, params[first], rev, params[rev])
        parts = []
        for rev, root in roots.items():
            agents = [a for a in params[rev].agents if a not in UNTRAINED]
            fetch(rev, root, params[rev])
            with reading(rev, root):
                parts.append(read(params[rev], root, agents, f"{rev}: "))
    conditions = {
        name: condition
        for name, condition in conditions_of(params[first]).items()
        if all(conditions_of(params[rev]).get(name) == condition for rev in others)
    }
    twins = {
        rev: drop_twins(first, parts[0], rev, part, list(conditions))
        for rev, part in zip(others, parts[1:], strict=True)
    }
    tables = {
        name: {
            key: table for part in parts for key, table in part["tables"][name].items()
        }
        for name in conditions
    }
    check(tables)
    joined = {
        name: {key: value for part in parts for key, value in part[name].items()}
        for name in ("recordings", "curves", "second_tries", "confusions")
    }
    comparison = Comparison(
        world=env_class(params[first].env),
        conditions=conditions,
        tables=tables,
        **joined,
        pairs=[
            (f"{rev}: {theirs}", f"{first}: {ours}")
            for rev in others
            for theirs, ours in pairs_between(params[first], params[rev])
            if theirs not in {*twins[rev], *map(recipe_of, twins[rev])}
        ],
        level=params[first].levels(params[first].run.tasks[0])[0],
        samples=params[first].compare.bootstrap_samples,
        seed=params[first].seed,
    )
    folder = REVISIONS / "-".join(rev.replace("/", "_") for rev in revs)
    pictures = write_plots(folder, comparison)
    told = sections(comparison, params[first], pictures)
    differences = differing(params)
    changed: list[Part] = [Table(differences)] if differences else ["None."]
    changed += [
        f"{rev}: {', '.join(names)} played the same episodes as in {first}, to the "
        "last button, and is shown once."
        for rev, names in twins.items()
        if names
    ]
    told.insert(0, Section("Which parameters differ", changed))
    told.append(Section("How this was made", made_of(revs)))
    title = f"{' and '.join(revs)}: agents of {params[first].env}"
    # Links of a report are relative to it.
    near = to_markdown(title, told).replace(f"]({folder.as_posix()}/", "](")
    write_text(folder / "report.md", near)
    write_text(folder / "report.html", to_html(title, told))
    print(f"{folder / 'report.html'}")


def fetch_params(rev: str, root: Path) -> Params:
    checkout(rev, [PARAMS], root)
    with reading(rev, root):
        return load_params(root / PARAMS)


def fetch(rev: str, root: Path, params: Params) -> None:
    """Copy what agents of a revision did.

    One from before second tries were counted has none.
    """
    paths, tries = [], []
    for task in params.run.tasks:
        paths.append(cell("plots/pretrain_bc", params.env, task, "confusion.csv"))
        for agent in params.agents:
            if agent in UNTRAINED:
                continue
            folder = cell("data/episodes", params.env, task, agent)
            paths += [folder / f"{noise}.csv" for noise in params.evaluate.noises]
            paths.append(folder / f"{NOISE}.jsonl")
            if agent not in BASELINES:
                curve = cell("metrics/train_rl", params.env, task, f"{agent}.csv")
                paths.append(curve)
                tries.append(second_tries_of(params.env, task, agent))
    checkout(rev, paths, root, optional=tries)
    for path in tries:
        if not (root / path).exists():
            none = pd.DataFrame(columns=["level", "progress", "second_tries"])
            write_csv(root / path, none)


def drop_twins(
    first: str,
    ours: Mapping[str, Any],
    rev: str,
    theirs: dict[str, Any],
    conditions: Sequence[str],
) -> list[str]:
    """Leave out what a revision has in common with the first; return whose it was.

    That is agents which played the same episodes in all conditions, and clones that did
    the same on held-out episodes.
    """

    def is_twin(key: Key) -> bool:
        other = key[0], f"{first}: {key[1].removeprefix(f'{rev}: ')}"
        return all(
            other in ours["tables"][name]
            and theirs["tables"][name][key]["log_sha256"].tolist()
            == ours["tables"][name][other]["log_sha256"].tolist()
            for name in conditions
        )

    agents = dict.fromkeys(agent for _, agent in theirs["tables"][NOISE])
    tasks = dict.fromkeys(task for task, _ in theirs["tables"][NOISE])
    twins = [a for a in agents if all(is_twin((task, a)) for task in tasks)]
    kept: list[dict[Any, Any]] = [*theirs["tables"].values()]
    kept += [theirs[name] for name in ("recordings", "curves", "second_tries")]
    for of_agents in kept:
        for key in [key for key in of_agents if key[1] in twins]:
            del of_agents[key]
    for name, table in list(theirs["confusions"].items()):
        other = f"{first}: {name.removeprefix(f'{rev}: ')}"
        if table.equals(ours["confusions"].get(other)):
            del theirs["confusions"][name]
    return [agent.removeprefix(f"{rev}: ") for agent in twins]


def check_alike(first: str, ours: Params, rev: str, theirs: Params) -> None:
    """Check that two revisions have episodes that can be compared.

    Raises:
        InputError: If not, with what differs.
    """
    for what, a, b in (
        ("env", ours.env, theirs.env),
        ("run.tasks", list(ours.run.tasks), list(theirs.run.tasks)),
        ("seed", ours.seed, theirs.seed),
        (
            f"evaluate.noises.{NOISE}",
            conditions_of(ours)[NOISE],
            conditions_of(theirs)[NOISE],
        ),
    ):
        if a != b:
            raise InputError(
                f"{rev} cannot be compared with {first}: {what} is {b} there and {a} "
                f"in {first}"
            )


def differing(params: Mapping[str, Params]) -> list[dict[str, object]]:
    """Return a row for each parameter that is not the same everywhere."""
    flat = {rev: dict(flatten(p.model_dump(mode="json"))) for rev, p in params.items()}
    keys = dict.fromkeys(key for values in flat.values() for key in values)
    return [
        {"parameter": key} | {rev: flat[rev].get(key, "-") for rev in flat}
        for key in keys
        if len({repr(values.get(key)) for values in flat.values()}) > 1
    ]


def flatten(tree: Any, name: str = "") -> Iterable[tuple[str, object]]:
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from flatten(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, tree


def made_of(revs: Sequence[str]) -> list[Part]:
    commits = [f"{rev} is {commit_of(rev)[:12]}" for rev in revs]
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return [
        f"By python stages/compare.py {' '.join(f'--rev {rev}' for rev in revs)}. "
        f"{'; '.join(commits)}. Packages here: {packages}, on {platform.platform()}."
    ]


if __name__ == "__main__":
    run_stage(main)
