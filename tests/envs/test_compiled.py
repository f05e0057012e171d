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


def copy_library(folder: Path) -> Path:
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(LIBRARY, folder / "warpzone", ignore=skip)
    return folder


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A folder with a copy of the library, compiled code left out."""
    return copy_library(tmp_path)


def run(folder: Path, code: str = READ) -> str:
    command = [sys.executable, "-c", code]
    found = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run(
        command, cwd=folder, env=found, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_was_compiled_once_is_read_from_disk(library: Path) -> None:
    assert run(library) == "True 0"
    assert run(library) == "True 1"
    assert list(library.rglob("*.nbc"))


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize("size", [0, 100])
def test_what_a_power_failure_cut_short_is_compiled_anew(
    library: Path, kind: str, size: int
) -> None:
    run(library)
    for path in (kept := list(library.rglob(f"*.{kind}"))):
        os.truncate(path, size)
    assert kept
    assert run(library) == "True 0"
    assert run(library) == "True 1"


def test_a_full_disk_keeps_nothing_and_stops_nothing(
    tmp_path: Path, mount: Callable[[str], Path | None]
) -> None:
    if (disk := mount("size=2m")) is None:
        pytest.skip("may not mount here")
    copy_library(disk)
    with (disk / "filler").open("wb") as filler, suppress(OSError):
        filler.write(bytes(2**21))
    assert run(disk) == "True 0"
    assert not list(disk.rglob("*.nb[ic]"))


# numba itself looks at the file of a function, not at those that it calls.
def test_a_change_of_what_is_called_compiles_the_callers_anew(library: Path) -> None:
    code = """
import numpy as np
from warpzone.envs.mario.rewards import LEDGER, reward
one, two = np.zeros(1, LEDGER), np.zeros(1, LEDGER)
two["coins"] = 3
print(reward(one, two, np.array([0, 0, 1.0, 0, 0, 0, 30])))
"""
    assert run(library, code) == "3.0"
    path = library / "warpzone/envs/mario/rewards.py"
    before = path.stat()
    # Of the same size, and it looks as old.
    path.write_text(path.read_text().replace("% 100", "% 0x2"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert run(library, code) == "1.0"


def test_where_no_folder_can_be_written_it_is_compiled_in_memory(
    library: Path,
) -> None:
    code = """
from numba.core import caching
for locator in caching.CacheImpl._locator_classes:
    locator.from_function = classmethod(lambda *_: None)
"""
    assert run(library, code + READ) == "True 0"
    assert not list(library.rglob("*.nb?"))


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
    amounts = np.full(len(TERMS), np.nan)
    count(before, after, 30, amounts)
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
