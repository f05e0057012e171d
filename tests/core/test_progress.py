"""How much work is left is said once it can be known, in a line or a bar."""

import ast
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from tqdm import tqdm

from warpzone.core.progress import progress_bar

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bar() -> Iterator[tqdm]:
    """Forty episodes, begun 100 seconds ago."""
    with progress_bar(40, "playing", "episode") as bar:
        bar.start_t -= 100
        yield bar


def test_before_a_tenth_is_done_nothing_is_estimated(bar: tqdm) -> None:
    assert str(bar) == "playing: 0 of 40 episodes"
    bar.update(3)
    assert str(bar) == "playing: 3 of 40 episodes"


def test_from_a_tenth_on_the_mean_rate_tells_what_is_left(bar: tqdm) -> None:
    bar.update(10)
    # 100 s for 10, so 300 s for the other 30. The last ones count no more than the
    # first: episodes end in clumps.
    assert str(bar) == "playing: 10 of 40 episodes, 05:00 left"


def test_what_was_done_before_a_kill_says_nothing_of_the_rate() -> None:
    with progress_bar(40, "playing", "episode", 20) as bar:
        bar.start_t -= 100
        bar.update(1)
        assert str(bar) == "playing: 21 of 40 episodes"
        bar.update(4)
        # 100 s for 5, so 300 s for the other 15.
        assert str(bar) == "playing: 25 of 40 episodes, 05:00 left"


def test_when_all_is_done_nothing_is_left(bar: tqdm) -> None:
    bar.update(40)
    assert str(bar) == "playing: 40 of 40 episodes"


def test_more_than_all_is_no_reason_to_guess(bar: tqdm) -> None:
    bar.update(50)
    assert str(bar) == "playing: 50 of ? episodes"


def test_nothing_to_do_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(0, "playing", "episode"):
        pass
    assert set(capsys.readouterr().err.splitlines()) == {"playing: 0 of 0 episodes"}


def test_elsewhere_than_on_a_terminal_each_state_is_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress_bar(2, "cloning", "update") as bar:
        bar.update()
        bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "cloning: 0 of 2 updates"
    assert lines[-1] == "cloning: 2 of 2 updates"
    assert not any("\r" in line for line in lines)


def test_on_a_terminal_it_is_a_bar() -> None:
    code = (
        "from warpzone.core.progress import progress_bar\n"
        "with progress_bar(2, 'cloning', 'update') as bar: bar.update(); bar.update()"
    )
    terminal, end = pty.openpty()
    rows_and_columns = struct.pack("HHHH", 24, 80, 0, 0)
    fcntl.ioctl(end, termios.TIOCSWINSZ, rows_and_columns)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=end)
    text = os.read(terminal, 100_000).decode()
    os.close(end)
    os.close(terminal)
    assert done.returncode == 0
    assert "cloning: 100%|" in text
    assert "2 of 2 updates" in text


def test_all_descriptions_begin_alike() -> None:
    """In lower case: they stand below each other."""
    found = []
    for path in sorted([*ROOT.glob("stages/*.py"), *ROOT.glob("warpzone/**/*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "progress_bar"
            ):
                continue
            text = ast.unparse(node.args[1])
            found.append(text)
            # A name stands for a text that is made nearby.
            assert re.match(r"f?'[a-z]|[a-z]+$", text), f"{path}: {text}"
    assert len(found) > 5
