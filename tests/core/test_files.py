from pathlib import Path

import pandas as pd
import pytest

from warpzone.core.files import write_bytes, write_csv, write_json, write_lines


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
