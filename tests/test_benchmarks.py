import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import stepping
from benchmarks.figure import stepping_figure
from benchmarks.measuring import (
    Line,
    Metric,
    Row,
    alternate,
    fitted_exponent,
    slope_in_words,
)
from benchmarks.page import page

ROOT = Path(__file__).resolve().parent.parent
WRITTEN = [
    ROOT / "benchmarks" / name for name in ("README.md", "results.json", "stepping.png")
]

ROWS = [
    f"| {row} |"
    for emulator in ("nes-py", "fceumm")
    for row in (
        *(
            f"ThreadedVecEnv, {emulator}, {seen}, {threads} | {emulator} alone"
            for seen in ("pixels", "state")
            for threads in ("1 thread", "2 threads", "8 threads")
        ),
        f"ThreadedVecEnv, {emulator} | SB3 SubprocVecEnv, {emulator}",
        f"ThreadedVecEnv, {emulator} | SB3 DummyVecEnv, {emulator}",
        f"PPO, {emulator} | the bound",
        f"PPO, {emulator} | SB3 PPO, SubprocVecEnv, nes-py",
        f"planner, {emulator} | {emulator} alone",
    )
] + [
    "| ThreadedVecEnv, fceumm | stable-retro in SubprocVecEnv |",
    "| cloning | the bound |",
]
METRICS = [
    "GIL, fceumm, pixels",
    "GIL, fceumm, state",
    "planner, nes-py",
    "planner, fceumm",
    "environment, nes-py",
    "environment, fceumm",
    "rollout",
    "check_params",
    "first step, nothing compiled",
    "first step, compiled",
]
LINES = [
    *(
        f"{name}**, agent steps/s ({contestant}, "
        for name in ("environments", "threads")
        for contestant in ("ThreadedVecEnv, fceumm", "fceumm alone")
    ),
    "environments**, agent steps/s (stable-retro in SubprocVecEnv, ",
    "levels**, s (",
    "demonstrations**, s (",
]


@pytest.mark.slow
def test_a_quick_run_measures_every_row_and_writes_nothing() -> None:
    before = [path.is_file() and path.read_bytes() for path in WRITTEN]
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    text = process.stdout
    for row in ROWS:
        ratio = r"\*\*\d+\.\d\d\*\* \(\d+\.\d\d to \d+\.\d\d\)"
        assert re.search(rf"{re.escape(row)} {ratio} \|", text), row
    for name in METRICS:
        assert re.search(rf"\| {name} \| [\d.,e+-]+ \|", text), name
    for name in LINES:
        assert re.search(rf"- \*\*{re.escape(name)}.*: 1: [\d.,e+-]+", text), name
    assert not re.search(r"\b(nan|inf)\b", text)
    assert [path.is_file() and path.read_bytes() for path in WRITTEN] == before


def test_a_ratio_is_the_median_of_the_ratios_within_the_rounds() -> None:
    # The second round was on a busy machine. The ratios are 0.5, 0.8 and 0.6.
    row = Row("", "", "", "", "", values=[5, 4, 9], baseline_values=[10, 5, 15])
    assert (row.value, row.baseline_value, row.ratio) == (5, 10, 0.6)
    assert (row.low, row.high) == (0.5, 0.8)


def test_a_number_without_a_baseline_is_the_median_of_its_rounds() -> None:
    assert Metric("", "", "", "", values=[3, 9, 4]).value == 4


def test_what_is_measured_alone_has_a_page_of_its_own_sections() -> None:
    setting = dict.fromkeys(
        ("minutes", "threads", "rounds", "turn_seconds", "frame_skip", "frame_side"), 1
    )
    setting |= {"machine": "", "versions": []}
    text = page([Metric("Memory", "rollout", "MB", "", [2, 1, 3])], setting, "", "All.")
    assert re.findall("^## (.*)$", text, re.MULTILINE) == [
        "Memory",
        "Where the time goes",
    ]
    assert "| rollout | 2 (1 to 3) | MB |  |  |" in text


def test_the_emulators_share_is_wanted_only_with_a_core_for_each_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stepping, "THREADS", 8)
    shares = [stepping.least_share(threads) for threads in (1, 2, 4, 8, 16)]
    assert shares == [0.9, 0.9, 0.85, 0.7, None]


def test_the_figure_draws_processes_over_threads_too() -> None:
    def line(name: str, contestant: str, sizes: list[int]) -> Line:
        rates = [100.0 * size for size in sizes]
        return Line("Growth", name, "agent steps/s", "", sizes, rates, contestant)

    ours = [line(name, "ours", [1, 2]) for name in ("threads", "environments")]
    both = [*ours, line("environments", "processes", [1, 2, 4])]
    pictures = [stepping_figure(lines, cores=2) for lines in (ours, both)]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert pictures[0] != pictures[1]
    assert stepping_figure(both, cores=2) == pictures[1]


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
