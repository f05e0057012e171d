"""What would end a late stage is told by the first one."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages import check_params
from stages.check_params import check_demonstrations, check_folder, check_memory
from warpzone.core.errors import InputError
from warpzone.core.params import load_params, parse_params

CLEARS = Path(__file__).parents[1] / "data" / "clears.jsonl"


@pytest.fixture
def disk(tmp_path: Path, mount: Callable[[str], Path | None]) -> Path:
    """A disk of two megabytes that nobody may write to."""
    if place := mount("size=2m,ro"):
        return place
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere, and may not mount here")
    place = tmp_path / "closed"
    place.mkdir(0o555)
    return place


def test_a_folder_that_cannot_be_written_is_told(disk: Path) -> None:
    for folder in (disk, disk / "models", disk / "models/mario/1-1"):
        with pytest.raises(InputError) as caught:
            check_folder(folder, 1)
        message = f"{disk}: cannot be written, and {folder} has to be"
        assert str(caught.value) == message
    assert list(disk.iterdir()) == []


def test_a_file_where_a_folder_has_to_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "models").touch()
    with pytest.raises(InputError, match="models: cannot be written"):
        check_folder(tmp_path / "models", 1)


def test_a_disk_that_is_too_small_is_told(tmp_path: Path) -> None:
    check_folder(tmp_path / "models", 1)
    with pytest.raises(InputError) as caught:
        check_folder(tmp_path / "models", 10**18)
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


def test_more_environments_than_memory_holds_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = load_params(Path(check_params.__file__).parents[1] / "params.yaml")
    check_memory(params)
    container = tmp_path / "memory.max"
    container.write_text("100000000\n")
    monkeypatch.setattr(check_params, "CONTAINER", container)
    with pytest.raises(InputError) as caught:
        check_memory(params)
    # 4 frames of 52 x 64 bytes and RAM; for the teacher RAM alone.
    assert str(caught.value) == (
        "params.yaml: recipes.bc-ppo: 32 environments and 4096 observations of 15 kB "
        "need 0.2 GB of memory, this machine has 0.1 GB: lower n_envs or n_steps"
    )


def test_a_replay_memory_counts_where_its_recipe_is_followed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = load_params(Path(check_params.__file__).parents[1] / "params.yaml")
    assert check_memory(params) == 0
    run = params.run.model_copy(update={"recipes": ("dqn",)})
    params = params.model_copy(update={"run": run})
    # A frame of 52 x 64 bytes and a fourth of one, and what was done.
    assert check_memory(params) == 65_536 * (4160 + 4 * 8 + 22)
    container = tmp_path / "memory.max"
    container.write_text("1000000000\n")
    monkeypatch.setattr(check_params, "CONTAINER", container)
    with pytest.raises(InputError) as caught:
        check_memory(params)
    # Five times 65,536 x 4,214 bytes, and 16 emulators.
    assert str(caught.value) == (
        "params.yaml: recipes.dqn: 16 environments and 65536 observations of 4 kB need "
        "1.4 GB of memory, this machine has 1.0 GB: lower n_envs or buffer_size"
    )


@pytest.mark.parametrize("text", ["max\n", ""])
def test_a_container_without_a_limit_has_the_machines_memory(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = load_params(Path(check_params.__file__).parents[1] / "params.yaml")
    (container := tmp_path / "memory.max").write_text(text)
    monkeypatch.setattr(check_params, "CONTAINER", container)
    check_memory(params)


def test_a_curriculum_that_nobody_demonstrates_is_told(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params = parse_params(document, "params.yaml")
    check_demonstrations(params)
    recipe, kwargs = document["recipes"]["bc-ppo"], document["envs"]["mario"]["kwargs"]
    recipe["curriculum"] = {"name": "demo-states", "probability": 0.5}
    check_demonstrations(parse_params(document, "params.yaml"))
    # Nobody but people, who have recorded 1-1 and not 2-1, on nes-py.
    document["collect_demos"]["episodes"] = 0
    Path("data/recordings").mkdir(parents=True)
    shutil.copy(CLEARS, "data/recordings")
    for emulator, task, is_fine in (
        ("nes-py", "1-1", True),
        ("nes-py", "2-1", False),
        ("fceumm", "1-1", False),
    ):
        kwargs["emulator"], document["run"]["tasks"] = emulator, [task]
        params = parse_params(document, "params.yaml")
        if is_fine:
            check_demonstrations(params)
            continue
        with pytest.raises(InputError) as caught:
            check_demonstrations(params)
        assert str(caught.value) == (
            "params.yaml: recipes.bc-ppo.curriculum.name = 'demo-states' needs a "
            f"demonstration of {task} by this emulator, and there is none: demonstrate "
            "it, or choose another curriculum"
        )
