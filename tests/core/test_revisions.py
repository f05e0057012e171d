"""Files of other revisions, from a small repository."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo

from warpzone.core.errors import InputError
from warpzone.core.revisions import checkout

ROOT = Path(__file__).parents[2]
PARAMS, TABLE = Path("params.yaml"), Path("data/table.csv")


def git(*arguments: str) -> None:
    who = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two commits with params.yaml, which git has, and a table, which DVC has."""
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    Repo.init().close()
    TABLE.parent.mkdir()
    for name in ("first", "second"):
        PARAMS.write_text(f"name: {name}\n")
        TABLE.write_text(f"{name} table\n")
        with Repo() as repo:
            Repo.add(repo, str(TABLE))
        git("add", "-A")
        git("commit", "-qm", name)
        git("tag", name)
    return tmp_path


def test_files_are_those_of_the_revision_and_the_working_tree_stays(
    repository: Path,
) -> None:
    PARAMS.write_text("name: edited\n")
    for rev, name in (("first", "first"), ("HEAD", "second"), ("HEAD~1", "first")):
        folder = repository / "copies" / rev
        checkout(rev, (PARAMS, TABLE), folder)
        assert (folder / PARAMS).read_text() == f"name: {name}\n"
        assert (folder / TABLE).read_text() == f"{name} table\n"
    assert PARAMS.read_text() == "name: edited\n"
    assert TABLE.read_text() == "second table\n"


def test_what_is_not_in_the_cache_is_fetched_from_the_remote(
    repository: Path, tmp_path: Path
) -> None:
    with Repo() as repo, repo.config.edit("local") as config:
        assert isinstance(config, dict)
        config["remote"] = {"far": {"url": str(tmp_path / "far")}}
        config["core"]["remote"] = "far"
    with Repo() as repo:
        repo.push(all_commits=True)
    shutil.rmtree(repository / ".dvc/cache")
    checkout("first", (TABLE,), repository / "copy")
    assert (repository / "copy" / TABLE).read_text() == "first table\n"


def test_what_a_revision_may_lack_is_copied_where_it_has_it(repository: Path) -> None:
    optional = (Path("data/none"), TABLE)
    checkout("first", (PARAMS,), repository / "copy", optional)
    assert (repository / "copy" / PARAMS).read_text() == "name: first\n"
    assert (repository / "copy" / TABLE).read_text() == "first table\n"
    assert not (repository / "copy/data/none").exists()


def test_what_there_is_not_is_one_line(repository: Path) -> None:
    with pytest.raises(InputError, match=r"^nobody: unknown Git revision 'nobody'$"):
        checkout("nobody", (PARAMS,), repository / "copy")
    missing = r"^HEAD: data/none is neither in git there nor in DVC's cache or remote$"
    with pytest.raises(InputError, match=missing):
        checkout("HEAD", (Path("data/none"),), repository / "copy")
    shutil.rmtree(repository / ".dvc/cache")
    with pytest.raises(InputError, match=r"^first: data/table\.csv is neither in git"):
        checkout("first", (TABLE,), repository / "copy")
    assert not (repository / "copy" / TABLE).exists()


def test_outside_of_a_repository_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^HEAD: .* is not a git repository"):
        checkout("HEAD", (PARAMS,), tmp_path / "copy")


def test_who_asks_for_no_revision_does_not_load_dvc() -> None:
    code = (
        "import sys, warpzone.core.revisions, stages.record_video\n"
        "assert 'dvc' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
