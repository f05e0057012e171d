"""What agents leave behind that params.yaml no longer names.

`compare` depends on a folder, since DVC cannot list files by a parameter. A clone that
never had these agents has only the others' files there.
"""

import shutil
from pathlib import Path

from warpzone.core.names import cell, second_tries_of
from warpzone.core.params import Params

LEFTOVERS = Path(".leftovers")
ROOTS = (
    "data/episodes",
    "data/videos",
    "metrics/train_rl",
    "plots/pretrain_bc",
    "plots/train_rl",
)
"""What `compare` depends on."""


def set_aside(params: Params) -> list[Path]:
    """Move episodes, films and curves of unnamed agents of the env to .leftovers/.

    DVC has them in its cache, too, and brings them back when they are named again.

    Returns:
        What was moved.
    """
    env, run = params.env, params.run
    wanted = set()
    for task in run.tasks:
        wanted.add(cell("plots/pretrain_bc", env, task))
        for agent in params.record_video.agents:
            wanted.add(cell("data/videos", env, task, agent))
        for agent in params.agents:
            wanted.add(cell("plots/train_rl", env, task, f"{agent}.csv"))
            wanted.add(second_tries_of(env, task, agent))
            for suffix in ("csv", "json"):
                wanted.add(cell("metrics/train_rl", env, task, f"{agent}.{suffix}"))
            wanted.add(cell("data/episodes", env, task, agent))
    moved = []
    for root in ROOTS:
        for path in sorted(Path(root, env).rglob("*")):
            if path.is_file() and wanted.isdisjoint((path, path.parent)):
                target = LEFTOVERS / path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(path, target)
                moved.append(path)
    return moved
