"""What would end a late stage is told by the first one."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages import check_params
from stages.check_params import check_folder
from warpzone.core.errors import InputError


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes that nobody may write to."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m,ro", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        place.chmod(0o555)
        if os.geteuid() == 0:
            pytest.skip("root may write anywhere, and may not mount here")
    yield place
    if mounted:
        subprocess.run(["umount", str(place)], check=True)


def test_a_folder_that_cannot_be_written_is_told(disk: Path) -> None:
    for folder in (disk, disk / "models", disk / "models/mario/1-1"):
        with pytest.raises(InputError) as caught:
            check_folder(folder)
        message = f"{disk}: cannot be written, and {folder} has to be"
        assert str(caught.value) == message
    assert list(disk.iterdir()) == []


def test_a_file_where_a_folder_has_to_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "models").touch()
    with pytest.raises(InputError, match="models: cannot be written"):
        check_folder(tmp_path / "models")


def test_a_disk_that_is_too_small_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_folder(tmp_path / "models")
    monkeypatch.setattr(check_params, "FREE", 10**18)
    with pytest.raises(InputError) as caught:
        check_folder(tmp_path / "models")
    told = str(caught.value)
    assert told.startswith(f"{tmp_path}: ")
    assert told.endswith(
        "MB of the disk are free, the pipeline needs 1,000,000,000,000 MB"
    )


def test_what_is_checked_is_all_that_stages_write() -> None:
    text = Path(check_params.__file__).parents[1].joinpath("dvc.yaml").read_text()
    for folder in ("data", "metrics", "models", "plots"):
        assert f"{folder}/" in text
        assert folder in check_params.WRITTEN
