import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.measuring import (
    Metric,
    Row,
    alternate,
    fitted_exponent,
    slope_in_words,
)

ROOT = Path(__file__).resolve().parent.parent
WRITTEN = [ROOT / "benchmarks" / name for name in ("README.md", "results.json")]

ROWS = [
    f"| {row} |"
    for emulator in ("nes-py", "fceumm")
    for row in (
        f"ThreadedVecEnv, {emulator} | {emulator} alone",
        f"ThreadedVecEnv, {emulator} | SB3 SubprocVecEnv, {emulator}",
        f"ThreadedVecEnv, {emulator} | SB3 DummyVecEnv, {emulator}",
        f"PPO, {emulator} | the bound",
        f"PPO, {emulator} | SB3 PPO, SubprocVecEnv, nes-py",
        f"planner, {emulator} | {emulator} alone",
    )
] + ["| cloning | the bound |"]
METRICS = [
    "planner, nes-py",
    "planner, fceumm",
    "environment, nes-py",
    "environment, fceumm",
    "rollout",
    "check_params",
]
LINES = ["environments", "threads", "levels", "demonstrations"]


@pytest.mark.slow
def test_a_quick_run_measures_every_row_and_writes_nothing() -> None:
    before = [path.read_bytes() for path in WRITTEN]
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    page = process.stdout
    for row in ROWS:
        ratio = r"\*\*\d+\.\d\d\*\* \(\d+\.\d\d to \d+\.\d\d\)"
        assert re.search(rf"{re.escape(row)} {ratio} \|", page), row
    for name in METRICS:
        assert re.search(rf"\| {name} \| [\d.,e+-]+ \|", page), name
    for name in LINES:
        assert re.search(rf"- \*\*{name}\*\*, .*: 1: [\d.,e+-]+", page), name
    assert not re.search(r"\b(nan|inf)\b", page)
    assert [path.read_bytes() for path in WRITTEN] == before


def test_a_ratio_is_the_median_of_the_ratios_within_the_rounds() -> None:
    # The second round was on a busy machine. The ratios are 0.5, 0.8 and 0.6.
    row = Row("", "", "", "", "", values=[5, 4, 9], baseline_values=[10, 5, 15])
    assert (row.value, row.baseline_value, row.ratio) == (5, 10, 0.6)
    assert (row.low, row.high) == (0.5, 0.8)


def test_a_number_without_a_baseline_is_the_median_of_its_rounds() -> None:
    assert Metric("", "", "", "", values=[3, 9, 4]).value == 4


def test_contestants_take_turns() -> None:
    turns: list[str] = []
    contestants = {name: lambda name=name: turns.append(name) for name in "ab"}
    assert alternate(contestants, 3, "") == {"a": [None] * 3, "b": [None] * 3}
    assert turns == ["a", "b"] * 3


def test_a_slope_is_named_by_its_exponent() -> None:
    sizes = [1, 10, 100]
    assert fitted_exponent(sizes, [3, 30, 300]) == pytest.approx(1)
    assert slope_in_words(fitted_exponent(sizes, [3, 30, 300])) == "linear"
    assert slope_in_words(fitted_exponent(sizes, [7, 7, 7])) == "flat"
    assert slope_in_words(fitted_exponent(sizes, [1, 100, 10_000])) == "as n^2.00"
