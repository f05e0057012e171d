"""Every write of a command fails once, and the same command then makes up for it.

strace kills the command at the N-th write, rename, link or fsync of a file, or has the
disk full there. A file with a random name it cannot know: there it counts all calls of
a thread, and hits the first thread that gets so far. What is the same after two hits is
followed up once. All places take hours: by default a command is hit in the middle.
`WARPZONE_EVERY_WRITE=1 pytest tests/faults/test_every_write.py -s` hits each, and says
how many there were.
"""

import hashlib
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import (  # pyright: ignore[reportMissingImports]
    REPRO,
    ROOT,
    STORAGE,
    contents,
    environment,
    file_system,
    must,
    run_in,
    use_server,
)

from tools.pipeline_copy import DVC, copy_repository
from tools.s3 import BUCKET, Server

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
FAST = "--seccomp-bpf"
"""Only calls that are traced stop. With it strace 6.1 loses the signals it injects."""
RANDOM = re.compile(r"[\w-]{22}\.tmp|\btmp[\w-]{8}\b")
"""Names of temporary files."""
LOCKS = {f".dvc/tmp/{name}" for name in ("lock", "repro.lock", "rwlock", "rwlock.lock")}
"""Files that name processes."""

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
    "envs": {"cartpole": {"kwargs": {"time_limit": 100}}},
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
            "default": {"episodes": 8, "reference": False},
            "greedy": {"episodes": 8},
            "none": None,
            "no-op-0": None,
            "no-op-10": None,
            "sticky-0": None,
            "sticky-10": None,
            "sticky-50": None,
            "sticky-decision": None,
            "sampled": None,
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
    "evaluate": "--task default --agent bc-ppo-1",
    "record_video": "--task default --agent bc-ppo-1",
    "compare": "",
}


@dataclass(frozen=True)
class Place:
    """Where a command is hit."""

    call: str
    path: str | None
    """As the call names it; None if the name is random."""
    count: int
    """Which of a thread's calls, on that path if there is one."""

    def options(self, fault: str) -> tuple[str, ...]:
        """Return the options of strace that have it fail."""
        inject = f"inject={self.call}:{FAULTS[fault]}:when={self.count}"
        path = () if self.path is None else ("-P", self.path)
        fast = () if fault == "killed" else (FAST,)
        return (*fast, *path, "-e", f"trace={self.call}", "-e", inject)


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
    done, log = strace(folder, (FAST, "-e", f"trace={CALLS}"), command)
    assert done.returncode == 0, done.stderr
    counts: Counter[tuple[str | None, ...]] = Counter()
    places: dict[Place, bool] = {}
    for thread, call, rest in re.findall(r"^(\d+) +(\w+)\((.*)$", log, re.MULTILINE):
        [name, *_] = names_in(call, rest) or ["?"]
        for path in (name, None):
            counts[thread, call, path] += 1
            place = Place(call, path, counts[thread, call, path])
            is_ours = is_inside(folder, call, rest)
            is_named = RANDOM.search(name) is None
            # Whoever gets so far first is hit.
            places.setdefault(place, is_ours and is_named == (path is not None))
    return [place for place, is_hit in places.items() if is_hit]


def names_in(call: str, rest: str) -> list[str]:
    """Return the paths of files in a call, as strace logs it."""
    if re.search("name|link", call):
        return re.findall('"(.*?)"', rest)
    return re.findall(r"\d<(/.*?)>", rest.split(",")[0] if "write" in call else rest)


def is_inside(folder: Path, call: str, rest: str) -> bool:
    """Whether a call, as strace logs it, writes into a folder."""
    return any(folder in Path(folder, name).parents for name in names_in(call, rest))


def state_of(folder: Path) -> str:
    """Return a hash of what the next command finds, but for times."""
    found: dict[str, bytes | None] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        is_told = path.is_file() and "costs/" not in name
        content = path.read_bytes() if is_told else None
        if name in LOCKS and content:
            content = re.sub(rb"\d", b"", content)
        if not name.startswith(".git/"):
            found[name] = content
    return hashlib.sha256(repr(found).encode()).hexdigest()


@dataclass
class Target:
    """A command to hit, always from the same start."""

    before: Path
    command: tuple[str, ...]
    results: Callable[[Path], Any]
    prepare: Callable[[], object] = lambda: None
    """Sets back what is outside of the folder."""
    is_remote: bool = False
    """Whether the next run finds more than the folder: each hit is followed up."""
    expected: Any = None
    passed: set[str] = field(default_factory=set)
    """States from which the next run has ended well."""

    def copy(self) -> Path:
        # Always the same path: it is in what DVC notes.
        folder = self.before.parent / "hit" / self.before.name
        shutil.rmtree(folder.parent, ignore_errors=True)
        folder.parent.mkdir()
        subprocess.run(["cp", "-a", self.before, folder], check=True)
        self.prepare()
        return folder

    def places(self) -> list[Place]:
        """Return the places of an undisturbed run, whose results are noted."""
        folder = self.copy()
        places = places_of(folder, self.command)
        self.expected = self.results(folder)
        assert places
        return places

    def hit(self, place: Place, fault: str) -> tuple[str, tuple[object, ...] | None]:
        """Hit the command and run it again; return how it ended, and what is wrong."""
        folder = self.copy()
        done, log = strace(folder, place.options(fault), self.command)
        # Other threads may have got so far, too, on their way to the terminal.
        failed = re.findall(r"^\d+ +(\w+)\((.*)\(INJECTED\)", log, re.MULTILINE)
        is_file = failed and all(is_inside(folder, *call) for call in failed)
        is_hit = failed or "killed by SIGKILL" in log
        outcome = "went on" if done.returncode == 0 else "ended"
        outcome = outcome if is_hit else "not reached"
        state = state_of(folder)
        if state not in self.passed:
            again = run_in(folder, *self.command, timeout=300)
            if again.returncode:
                return outcome, (place, "the next run fails", again.stderr[-500:])
            if self.results(folder) != self.expected:
                return outcome, (place, "other bytes", done.stderr[-200:])
            if not self.is_remote:
                self.passed.add(state)
        if is_file and "Traceback" in done.stderr:
            return outcome, (place, "traceback", done.stderr[-800:])
        return outcome, None


def hit_everywhere(
    target: Target, fault: str, is_chosen: Callable[[Place], bool] = lambda place: True
) -> None:
    """Hit a command at its places, each time from the same start, and run it again."""
    places = list(filter(is_chosen, target.places()))
    chosen = places if EVERY else [places[len(places) // 2]]
    outcomes: Counter[str] = Counter()
    wrong = []
    for place in chosen:
        outcome, problem = target.hit(place, fault)
        outcomes[outcome] += 1
        if outcome == "not reached":
            print(place)
        wrong += [problem] if problem else []
    words = " ".join(target.command[-3:])
    print(
        f"{words}, {fault}: {len(chosen)} of {len(places)}",
        dict(Counter(place.call for place in chosen)),
        dict(outcomes),
        f"states: {len(target.passed)}",
    )
    assert outcomes["not reached"] < len(chosen)
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
    hit_everywhere(Target(finished, command, results_of_pipeline), fault)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("last", ["check_params", "compare"])
def test_make_repro_hit_at_a_write_ends_in_the_same_bytes(
    finished: Path, last: str, fault: str, tmp_path: Path
) -> None:
    before = tmp_path / "repo"
    subprocess.run(["cp", "-a", finished, before], check=True)
    params = before / "params.yaml"
    text = params.read_text()
    changed = text.replace("bootstrap_samples: 100", "bootstrap_samples: 1000")
    assert changed != text
    params.write_text(changed)
    # Two stages run. Whoever wants to hit the second starts when the first has run, and
    # leaves out the others: DVC locks each again and again to see that nothing is new.
    command = REPRO
    if last == "compare":
        must(before, *DVC, "repro", "-q", "check_params")
        command = (*REPRO, "--single-item", "compare")

    def is_chosen(place: Place) -> bool:
        [*_, path] = (place.path or "").split("/hit/")
        names = "check_params", "data/code", "dvc.lock"
        return last == "compare" or any(name in path for name in names)

    target = Target(before, command, results_of_pipeline)
    hit_everywhere(target, fault, is_chosen)
    # An old table in the place of a new one would show.
    made = "dvc.lock", "data/code"
    old = results_of_pipeline(finished)
    assert any(
        old[name] != content
        for name, content in target.expected.items()
        if not name.startswith(made)
    )


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

    def prepare() -> None:
        if name == "push":
            files = file_system(server)
            for path in files.find(BUCKET):
                files.rm_file(path)

    command = (*STORAGE, name)
    hit_everywhere(Target(place, command, results, prepare, is_remote=True), fault)
