"""Check all of params.yaml, and write what code each stage consists of.

Reads params.yaml, stages/ and warpzone/. Writes data/code/STAGE.txt, a line for each
module that a stage reaches: stages run again when theirs changes. It comes before any
other stage, which might delete something. Episodes and curves of agents that
params.yaml no longer names are set aside in .leftovers/, where `compare` does not see
them. What would only end a later stage is told here: a full disk, a folder that cannot
be written, a GPU or a package that is not there.
"""

import os
import platform
import shutil
import subprocess
import sys
from contextlib import closing, suppress
from itertools import product
from math import prod
from pathlib import Path

import gymnasium as gym
import psutil

from warpzone import IS_PINNED
from warpzone.agents.model import SPEC, load_agent
from warpzone.agents.policy import find_device
from warpzone.core.errors import InputError
from warpzone.core.fingerprints import write_fingerprints
from warpzone.core.leftovers import set_aside
from warpzone.core.names import CODE, PARAMS, RECORDINGS
from warpzone.core.params import ModelStart, Params, load_params
from warpzone.core.stage import argument_parser, run_stage
from warpzone.envs.registry import agent_key, check_env, make_env, modules_of
from warpzone.episodes.recording import is_same_player, read_recordings
from warpzone.training.algorithms import check_kind, check_recipe, keys_to_show
from warpzone.training.curricula import NoDemonstrationError, needs_every_level
from warpzone.training.memory import bytes_of_transition

STAGES = Path("stages")
WRITTEN = (".checkpoints", ".dvc/cache", "data", "metrics", "models", "plots", ".")
FREE = 500 * 10**6
"""Bytes. Each agent takes 20 MB with its copy in the cache, and checkpoints beside."""
ENVIRONMENT = 10**6
"""Bytes of memory, the emulator's and what is around it."""
COPIES = 5
"""Of a replay memory, where a checkpoint of it is being written."""
CONTAINER = Path("/sys/fs/cgroup/memory.max")
NO_AVX2 = "warning: without AVX2, numbers are rounded otherwise than on other machines"


def main() -> None:
    argument_parser(__doc__).parse_args()
    try:
        params = load_params(PARAMS)
        find_device(params.device)
        for name, recipe in params.recipes.items():
            check_recipe(name, recipe)
        # A world may allow only so many idle frames, and each evaluation has its noise.
        noises = (params.noise, *params.evaluate.noises.values())
        most = max(noises, key=lambda noise: noise.no_op_max)
        check_env(params.env, params.world, most)
        check_starts(params)
        check_demonstrations(params)
    except InputError as error:
        raise InputError(f"{error}{remedy()}") from error
    largest = check_memory(params)
    for folder in WRITTEN:
        # A checkpoint is written beside the one before.
        check_folder(Path(folder), FREE + 2 * largest)
    if platform.machine() == "x86_64" and not IS_PINNED:
        print(NO_AVX2, file=sys.stderr)
    set_aside(params)
    write_fingerprints(sorted(STAGES.glob("*.py")), CODE, modules_of(params.env))


def check_starts(params: Params) -> None:
    """Check that the agents which recipes start from are there and fit.

    Raises:
        InputError: In one line.
    """
    first = params.recipes["teacher"].start
    if first not in ("scratch", "demos"):
        said = first.model_dump() if isinstance(first, ModelStart) else first
        raise InputError(
            f"{PARAMS}: recipes.teacher.start = {said!r}: write demos or scratch: the "
            "teacher comes before any other agent"
        )
    level = next(iter(params.world.tasks.values()))[0]
    for name in params.run.recipes:
        recipe = params.recipes[name]
        if not isinstance(recipe.start, ModelStart):
            continue
        folder = Path(recipe.start.model)
        where = f"{PARAMS}: recipes.{name}.start"
        if not (folder / SPEC).is_file():
            raise InputError(
                f"{where}: {folder / SPEC} is not there: dvc get . "
                f"models/ENV/TASK/AGENT --rev REVISION -o {folder}"
            )
        keys = keys_to_show(params.env, recipe)
        with closing(
            make_env(params.env, params.world.kwargs, level, params.noise, keys)
        ) as env:
            try:
                key = agent_key(params.env, recipe.observation)
                check_kind(recipe, load_agent(folder, env, key).policy)
            except InputError as error:
                raise InputError(f"{where}: {error}") from error


def check_folder(folder: Path, needed: int) -> None:
    """Check that stages can write so many bytes into a folder, be it there or not.

    Raises:
        InputError: In one line.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{there}: cannot be written, and {folder} has to be")
    free = shutil.disk_usage(there).free
    if free < needed:
        raise InputError(
            f"{there}: {free / 1e6:,.0f} MB of the disk are free, the pipeline needs "
            f"{needed / 1e6:,.0f} MB"
        )


def check_memory(params: Params) -> int:
    """Check that what each training keeps fits into this machine's memory.

    Return the bytes of the largest replay memory, which checkpoints hold.

    Raises:
        InputError: In one line.
    """
    there_is = psutil.virtual_memory().total
    with suppress(OSError, ValueError):
        # A container may have less.
        there_is = min(there_is, int(CONTAINER.read_text()))
    spaces_of: dict[tuple[str, ...], list[gym.spaces.Box]] = {}
    largest = 0
    for name in dict.fromkeys(("teacher", *params.run.recipes)):
        recipe = params.recipes[name]
        keys = keys_to_show(params.env, recipe)
        if keys not in spaces_of:
            spaces_of[keys] = observed_spaces(params, keys)
        kwargs, spaces = recipe.algorithm_kwargs, spaces_of[keys]
        if "buffer_size" in kwargs:
            steps, copies, key = kwargs["buffer_size"], COPIES, "buffer_size"
            bytes_each = sum(map(bytes_of_transition, spaces))
            largest = max(largest, steps * bytes_each)
        else:
            steps, copies, key = recipe.n_envs * kwargs["n_steps"], 2, "n_steps"
            sizes = (prod(space.shape) * space.dtype.itemsize for space in spaces)
            bytes_each = sum(sizes)
        needed = copies * steps * bytes_each + recipe.n_envs * ENVIRONMENT
        if needed > 0.9 * there_is:
            raise InputError(
                f"{PARAMS}: recipes.{name}: {recipe.n_envs} environments and {steps} "
                f"observations of {bytes_each / 1e3:,.0f} kB need "
                f"{needed / 1e9:,.1f} GB of memory, this machine has "
                f"{there_is / 1e9:,.1f} GB: lower n_envs or {key}"
            )
    return largest


def observed_spaces(params: Params, keys: tuple[str, ...]) -> list[gym.spaces.Box]:
    level = next(iter(params.world.tasks.values()))[0]
    with closing(
        make_env(params.env, params.world.kwargs, level, params.noise, keys)
    ) as env:
        return list(env.observation_space.values())  # pyright: ignore[reportAttributeAccessIssue]


def check_demonstrations(params: Params) -> None:
    """Check that people have recorded what curricula need, where nobody else does.

    Raises:
        InputError: In one line.
    """
    names = [
        name
        for name in ("teacher", *params.run.recipes)
        if needs_every_level(params.recipes[name])
    ]
    if params.collect_demos.episodes > 0 or not names:
        return
    first = params.levels(params.run.tasks[0])[0]
    with closing(
        make_env(params.env, params.world.kwargs, first, params.noise, "state")
    ) as env:
        version = env.version
    recorded = {
        (one.env, one.level)
        for path in sorted(RECORDINGS.glob("*.jsonl"))
        for one in read_recordings(path)
        if is_same_player(one.version, version)
    }
    for name, task in product(names, params.run.tasks):
        for level in params.levels(task):
            if (params.env, level) not in recorded:
                raise NoDemonstrationError(name, params.recipes[name], level)


def remedy() -> str:
    """Return how to take back a value that `dvc exp run -S` has left in the file."""
    command = ["git", "diff", "--quiet", "HEAD", "--", PARAMS]
    with suppress(OSError):
        done = subprocess.run(command, stderr=subprocess.DEVNULL)
        if done.returncode == 1:
            return f" (git checkout {PARAMS} takes back what was changed)"
    return ""


if __name__ == "__main__":
    run_stage(main)
