import errno
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from warpzone.core import files
from warpzone.core.errors import InputError, shown
from warpzone.core.files import (
    read_bytes,
    write_bytes,
    write_csv,
    write_json,
    write_lines,
)

ROOT = Path(__file__).resolve().parents[2]


def run_code(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_json_has_sorted_keys_and_ends_with_a_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "new" / "a.json", {"b": 1, "a": 0.5})
    text = (tmp_path / "new" / "a.json").read_text()
    assert text == '{\n  "a": 0.5,\n  "b": 1\n}\n'


def test_a_number_that_json_cannot_say_leaves_the_old_file_whole(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_bytes(tmp_path / "folder", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_csv_and_lines_end_lines_as_unix_does(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", pd.DataFrame({"x": [1, 2], "y": [1 / 3, 1e-9]}))
    write_lines(tmp_path / "a.txt", ["one", "two"])
    assert (tmp_path / "a.csv").read_bytes() == b"x,y\n1,0.333333\n2,1e-09\n"
    assert (tmp_path / "a.txt").read_bytes() == b"one\ntwo\n"


def test_a_write_that_the_system_ends_names_the_file(tmp_path: Path) -> None:
    # A limit of the size of files ends a write as a full disk does: neither says where.
    code = """\
import resource
from pathlib import Path
from warpzone.core.files import write_bytes
from warpzone.core.stage import run_stage
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
run_stage(lambda: write_bytes(Path("models/bc/policy.json"), b"new" * 1000))
"""
    done = run_code(code, tmp_path)
    assert done.returncode == 1
    assert done.stderr == "error: models/bc/policy.json: File too large\n"
    assert list((tmp_path / "models/bc").iterdir()) == []


def test_a_disk_that_does_not_take_what_was_written_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(number: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    # No disk breaks on demand.
    monkeypatch.setattr(files.os, "fsync", fsync)
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="Input/output error") as caught:
        write_bytes(path, b"new")
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_message_shows_does_nothing_to_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a\nb\x1b[2Jc\u202ed\udcff"
    with pytest.raises(InputError) as caught:
        read_bytes(path)
    assert str(caught.value) == (
        f"{tmp_path}/a\\nb\\x1b[2Jc\\u202ed\\udcff: cannot be read: "
        "No such file or directory"
    )
    # Said again by another error, it stays as it is.
    assert str(InputError(f"{caught.value}")) == str(caught.value)
    assert shown("caf\u00e9 \u4e16: 'a\\b'") == "caf\u00e9 \u4e16: 'a\\b'"


def test_a_stage_that_misses_a_strange_file_says_one_line(tmp_path: Path) -> None:
    code = """\
from pathlib import Path
from warpzone.core.stage import run_stage
run_stage(lambda: Path("a\\n\\x1b[2J").read_text())
"""
    done = run_code(code, tmp_path)
    assert done.stderr == "error: a\\n\\x1b[2J: No such file or directory\n"
