"""Every write of a command fails once, and the same command then makes up for it.

strace kills the command at its N-th write, rename, link or fsync, or has the disk full
there. It counts in each thread, and the first thread that gets so far is hit. All
places take an hour: by default a command is hit in the middle.
`WARPZONE_EVERY_WRITE=1 pytest tests/faults/test_every_write.py -s` hits each, and says
how many there were.
"""

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import (  # pyright: ignore[reportMissingImports]
    REPRO,
    ROOT,
    STORAGE,
    contents,
    environment,
    must,
    run_in,
    use_server,
)

from tools.pipeline_copy import copy_repository
from tools.s3 import Server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("strace") is None, reason="strace is not installed (Debian has it)"
    ),
]

CALLS = (
    "write,pwrite64,sendfile,copy_file_range,rename,renameat,renameat2,link,linkat,"
    "fsync,fdatasync"
)
FAULTS = {"killed": "signal=SIGKILL", "full": "error=ENOSPC"}
EVERY = os.environ.get("WARPZONE_EVERY_WRITE") == "1"
STRACE = ("strace", "-f", "-y", "-qq", "-o")

TRAINING = {
    "total_timesteps": 64,
    "n_envs": 2,
    "n_steps": 16,
    "batch_size": 16,
    "log_freq": 32,
    "eval_freq": 32,
    "n_eval_episodes": 2,
}
SMALL = {
    "seed": 1,
    "device": "cpu",
    "torch_threads": 2,
    "env": "cartpole",
    "run": {"tasks": ["default"], "recipes": ["bc-ppo"], "seeds": [1]},
    "envs": {"cartpole": {"kwargs": {"time_limit": 20}}},
    "collect_demos": {"episodes": 2, "max_tries": 8},
    "recipes": {
        "teacher": {**TRAINING, "critic_warmup": 0, "cloning": {"updates": 4}},
        "bc-ppo": TRAINING,
    },
    "pretrain_bc": {
        "held_out_share": 0.5,
        "episodes": 2,
        "updates": 4,
        "rounds": 1,
        "round_episodes": 2,
        "round_updates": 4,
        "final_updates": 4,
    },
    "evaluate": {
        "noises": {
            "default": {"episodes": 2, "reference": False},
            "none": None,
            "no-op-0": None,
            "no-op-10": None,
            "sticky-0": None,
            "sticky-10": None,
            "sticky-50": None,
        }
    },
    "record_video": {"agents": ["bc-ppo-1"], "episodes": ["median"]},
    "compare": {"bootstrap_samples": 100},
}
STAGES = {
    "check_params": "",
    "collect_demos": "--task default",
    "pretrain_bc": "--task default",
    "choose_start": "--task default --recipe bc-ppo",
    "train_rl": "--task default --recipe bc-ppo --seed 1",
    "evaluate": "--task default --agent bc-ppo-1 --noise default",
    "record_video": "--task default --agent bc-ppo-1",
    "compare": "",
}


@dataclass(frozen=True)
class Place:
    """Where a command is hit."""

    call: str
    count: int
    """Which of a thread's."""


def strace(
    folder: Path, options: tuple[str, ...], command: tuple[str, ...]
) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run a command under strace; return what it said and the log of its calls."""
    log = folder.parent / "calls.log"
    traced = (*STRACE, str(log), *options, *command)
    done = subprocess.run(
        traced,
        cwd=folder,
        # Bytecode is written once, by whoever is first.
        env=environment(folder, PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done, log.read_text(errors="replace")


def places_of(folder: Path, command: tuple[str, ...]) -> list[Place]:
    """Return where a command can be hit while it writes into its folder, in order."""
    done, log = strace(folder, ("-e", f"trace={CALLS}"), command)
    assert done.returncode == 0, done.stderr
    counts: Counter[tuple[str, str]] = Counter()
    places: dict[Place, bool] = {}
    for thread, call, rest in re.findall(r"^(\d+) +(\w+)\((.*)$", log, re.MULTILINE):
        counts[thread, call] += 1
        place = Place(call, counts[thread, call])
        # Whoever gets so far first is hit.
        places.setdefault(place, is_inside(folder, call, rest))
    return [place for place, is_ours in places.items() if is_ours]


def is_inside(folder: Path, call: str, rest: str) -> bool:
    """Whether a call, as strace logs it, writes into a folder."""
    if call in ("write", "pwrite64"):
        return f"<{folder}/" in rest
    return f"{folder}/" in rest or bool(re.search(r'"[^/]', rest.split("=")[0]))


def hit_everywhere(
    before: Path,
    command: tuple[str, ...],
    fault: str,
    results: Callable[[Path], Any],
) -> None:
    """Hit a command at its places, each time from the same start, and run it again."""

    def copy(name: str) -> Path:
        # Always the same path: it is in what DVC notes.
        folder = before.parent / "hit" / before.name
        shutil.rmtree(folder.parent, ignore_errors=True)
        folder.parent.mkdir()
        subprocess.run(["cp", "-a", before, folder], check=True)
        return folder

    folder = copy("undisturbed")
    places = places_of(folder, command)
    expected = results(folder)
    assert places
    chosen = places if EVERY else [places[len(places) // 2]]
    outcomes: Counter[str] = Counter()
    wrong = []
    for place in chosen:
        folder = copy("hit")
        inject = f"inject={place.call}:{FAULTS[fault]}:when={place.count}"
        options = ("-e", f"trace={place.call}", "-e", inject)
        done, log = strace(folder, options, command)
        # Other threads may have got so far, too, on their way to the terminal.
        failed = re.findall(r"^\d+ +(\w+)\((.*)\(INJECTED\)", log, re.MULTILINE)
        is_file = failed and all(is_inside(folder, *call) for call in failed)
        outcomes["went on" if done.returncode == 0 else "ended"] += 1
        again = run_in(folder, *command, timeout=300)
        if again.returncode:
            wrong.append((place, "the next run fails", again.stderr[-500:]))
        elif results(folder) != expected:
            wrong.append((place, "other bytes", done.stderr[-200:]))
        elif is_file and "Traceback" in done.stderr:
            wrong.append((place, "traceback", done.stderr[-800:]))
    print(
        f"{' '.join(command[-3:])}, {fault}: {len(chosen)} of {len(places)}", outcomes
    )
    assert not wrong, "\n".join(map(str, [len(wrong), *wrong]))


def results_of_pipeline(folder: Path) -> dict[str, bytes]:
    """What git and DVC keep of a pipeline."""
    found = {"dvc.lock": (folder / "dvc.lock").read_bytes()}
    for part in ("data", "models", "metrics", "plots"):
        for name, content in contents(folder / part).items():
            # What a run cost; no output.
            if "costs/" not in name:
                found[f"{part}/{name}"] = content
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CartPole's pipeline, small and finished. To be copied."""
    folder = tmp_path_factory.mktemp("every") / "repo"
    copy_repository(ROOT, folder, SMALL)
    done = run_in(folder, *REPRO, timeout=600)
    assert done.returncode == 0, done.stderr
    must(folder, "git", "add", "--all")
    must(folder, "git", "commit", "-qm", "Made")
    return folder


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_hit_at_a_write_ends_in_the_same_bytes(
    finished: Path, stage: str, fault: str
) -> None:
    command = ("python", f"stages/{stage}.py", *STAGES[stage].split())
    hit_everywhere(finished, command, fault, results_of_pipeline)


@pytest.mark.parametrize("fault", FAULTS)
def test_make_repro_hit_at_a_write_ends_in_the_same_bytes(
    finished: Path, fault: str, tmp_path: Path
) -> None:
    before = tmp_path / "repo"
    subprocess.run(["cp", "-a", finished, before], check=True)
    params = before / "params.yaml"
    text = params.read_text()
    changed = text.replace("bootstrap_samples: 100", "bootstrap_samples: 101")
    assert changed != text
    params.write_text(changed)
    hit_everywhere(before, REPRO, fault, results_of_pipeline)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["push", "pull", "verify"])
def test_storage_hit_at_a_write_ends_in_the_same_bytes(
    repo: Path, fresh: Callable[[], Path], server: Server, name: str, fault: str
) -> None:
    use_server(repo, server)
    before = repo
    if name != "push":
        must(repo, *STORAGE, "push")
    if name == "pull":
        before = fresh()
    if name == "verify":
        # Something to heal, in the cache and in the workspace.
        (repo / "models/3.txt").write_text("damaged")
        [cached, *_] = sorted((repo / ".dvc/cache/files/md5").glob("*/*"))
        cached.chmod(0o644)
        cached.write_bytes(b"damaged")
    place = before.parent / "before" / before.name
    place.parent.mkdir()
    shutil.move(before, place)

    def results(folder: Path) -> dict[str, bytes]:
        must(folder, *STORAGE, "push")
        found = contents(folder / "models") | contents(folder / ".dvc/cache/files")
        return found | {"table.csv": (folder / "table.csv").read_bytes()}

    hit_everywhere(place, (*STORAGE, name), fault, results)
