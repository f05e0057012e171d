"""Compiled code: cached on disk, never stale, and without the GIL."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import warpzone
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.mario.rewards import LEDGER, TERMS, count
from warpzone.envs.replayable import hold_noisily

LIBRARY = Path(warpzone.__file__).parent

READ = """
import sys
import numpy as np
from warpzone.envs.mario.state import is_dead
ram = np.zeros(2048, np.uint8)
ram[0x0E] = 0x0B
print(is_dead(ram), sum(is_dead.stats.cache_hits.values()))
"""

CALLER = """
from warpzone.envs.callee import doubled
from warpzone.envs.compiled import compiled
@compiled
def doubled_twice(number):
    return doubled(doubled(number))
"""
CALLEE = """
from warpzone.envs.compiled import compiled
@compiled
def doubled(number):
    return number * 2
"""
CALL = """
import sys
from warpzone.envs.caller import doubled_twice
print(doubled_twice(3), sum(doubled_twice.stats.cache_hits.values()))
"""


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A folder with a copy of the library, compiled code left out."""
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(LIBRARY, tmp_path / "warpzone", ignore=skip)
    return tmp_path


def write_two_functions(folder: Path) -> Path:
    """Write a library of compiled.py and two functions, which is fast to load."""
    envs = folder / "warpzone/envs"
    envs.mkdir(parents=True)
    shutil.copy(LIBRARY / "envs/compiled.py", envs)
    (envs / "caller.py").write_text(CALLER)
    (envs / "callee.py").write_text(CALLEE)
    return folder


@pytest.fixture
def two_functions(tmp_path: Path) -> Path:
    return write_two_functions(tmp_path)


def run(folder: Path, code: str) -> str:
    command = [sys.executable, "-c", code]
    found = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run(
        command, cwd=folder, env=found, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_was_compiled_once_is_read_from_disk(library: Path) -> None:
    assert run(library, READ) == "True 0"
    assert run(library, READ) == "True 1"
    assert list(library.rglob("*.nbc"))


# Each in turn, in one process, which imports the library anew for each call.
CUT_SHORT = f"""
import os
from pathlib import Path
for kind, size in [("nbi", 0), ("nbi", 100), ("nbc", 0), ("nbc", 100)]:
    kept = list(Path.cwd().rglob("*." + kind))
    for path in kept:
        os.truncate(path, size)
    for _ in range(2):
        for name in [name for name in sys.modules if name.startswith("warpzone")]:
            del sys.modules[name]
        print(kind, size, len(kept), end=" ")
        exec({CALL!r})
"""


def test_what_a_power_failure_cut_short_is_compiled_anew(two_functions: Path) -> None:
    assert run(two_functions, CALL) == "12 0"
    assert run(two_functions, CALL + CUT_SHORT).splitlines() == [
        "12 1",
        *(
            f"{kind} {size} 2 12 {hits}"
            for kind in ("nbi", "nbc")
            for size in (0, 100)
            for hits in (0, 1)
        ),
    ]


def test_a_full_disk_keeps_nothing_and_stops_nothing(
    mount: Callable[[str], Path | None],
) -> None:
    if (disk := mount("size=2m")) is None:
        pytest.skip("may not mount here")
    write_two_functions(disk)
    with (disk / "filler").open("wb") as filler, suppress(OSError):
        filler.write(bytes(2**21))
    assert run(disk, CALL) == "12 0"
    assert not list(disk.rglob("*.nb[ic]"))


# numba itself looks at the file of a function, not at those that it calls.
def test_a_change_of_what_is_called_compiles_the_callers_anew(
    two_functions: Path,
) -> None:
    assert run(two_functions, CALL) == "12 0"
    path = two_functions / "warpzone/envs/callee.py"
    before = path.stat()
    # Of the same size, and it looks as old.
    path.write_text(path.read_text().replace("* 2", "* 3"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert run(two_functions, CALL) == "27 0"


def test_where_no_folder_can_be_written_it_is_compiled_in_memory(
    two_functions: Path,
) -> None:
    code = """
from numba.core import caching
for locator in caching.CacheImpl._locator_classes:
    locator.from_function = classmethod(lambda *_: None)
"""
    assert run(two_functions, code + CALL) == "12 0"
    assert not list(two_functions.rglob("*.nb?"))


def test_noise_draws_what_numpys_generator_draws() -> None:
    env = MarioEnv("1-1", no_op_max=0)
    env.reset(seed=5)
    rng = np.random.default_rng()
    rng.bit_generator.state = env.np_random.bit_generator.state
    held = 0
    for step in range(20):
        action = step % len(env.codes)
        env.step(action)
        before = held if step else env.codes[action]
        expected = hold_noisily(before, env.codes[action], rng.random(4), 0.25, False)
        assert bytes(env.frame_actions[-4:]) == expected.tobytes()
        held = env.frame_actions[-1]
    assert rng.bit_generator.state == env.np_random.bit_generator.state


def test_noise_holds_the_code_before_where_a_draw_is_below_the_probability() -> None:
    draws = np.array([0.3, 0.2, 0.25, 0.1])
    assert hold_noisily(7, 5, draws, 0.25, False).tolist() == [5, 5, 5, 5]
    assert hold_noisily(7, 5, draws[1:], 0.25, False).tolist() == [7, 5, 5]
    assert hold_noisily(7, 5, draws, 0.5, False).tolist() == [7, 7, 7, 7]


def test_per_decision_the_first_draw_counts_for_all_frames() -> None:
    draws = np.array([0.3, 0.2, 0.25, 0.1])
    assert hold_noisily(7, 5, draws, 0.25, True).tolist() == [5, 5, 5, 5]
    assert hold_noisily(7, 5, draws[1:], 0.25, True).tolist() == [7, 7, 7]
    assert hold_noisily(7, 5, draws[2:], 0.25, True).tolist() == [5, 5]


def test_every_term_of_the_reward_is_counted() -> None:
    before, after = np.zeros(1, LEDGER), np.ones(1, LEDGER)
    before["time"], after["time"] = 2, 1
    # Idle.
    before["x"] = before["y"] = 1
    amounts = np.full(len(TERMS), np.nan)
    count(before, after, 30, 1, amounts)
    assert amounts.tolist() == [1.0] * len(TERMS)


def test_an_agent_step_lets_other_threads_run() -> None:
    env = MarioEnv("1-1", frame_skip=60, stuck_limit=0)
    env.reset(seed=1)
    env.step(0)
    ticks: list[float] = []
    is_done = threading.Event()

    def tick() -> None:
        while not is_done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(1e-4)

    thread = threading.Thread(target=tick)
    thread.start()
    began = time.perf_counter()
    env.step(0)
    ended = time.perf_counter()
    is_done.set()
    thread.join()
    # 60 frames take ten milliseconds or more.
    assert sum(began < tick < ended for tick in ticks) >= 3
