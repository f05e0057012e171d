"""Push and pull against Ceph's S3 server, where it is installed (Debian: radosgw)."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ceph import (  # pyright: ignore[reportMissingImports]
    missing_programs,
    serve_ceph,
)
from conftest import (  # pyright: ignore[reportMissingImports]
    DVC,
    STORAGE,
    error_line,
    file_system,
    kill_pushes,
    misses_its_bucket,
    must,
    outputs,
    refuses_credentials,
    run_in,
    use_server,
)

from tools.s3 import BUCKET, Server
from tools.storage.remote import CHECKSUMS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if missing := missing_programs():
        pytest.skip(
            f"Ceph is not installed, {', '.join(missing)} missing: on Debian, "
            "apt-get install radosgw ceph-mon ceph-osd"
        )
    with pytest.MonkeyPatch.context() as patch:
        for name in CHECKSUMS:
            patch.setenv(name, CHECKSUMS[name])
        with serve_ceph(tmp_path_factory.mktemp("ceph")) as server:
            yield server


def objects(server: Server, repo: Path) -> list[str]:
    return list(file_system(server).find(f"{BUCKET}/{repo.parent.name}/files/md5"))


def test_ceph_gives_back_what_was_pushed(
    repo: Path, ceph: Server, fresh: Callable
) -> None:
    use_server(repo, ceph)
    must(repo, *STORAGE, "push")
    assert "pushed 0 of" in must(repo, *STORAGE, "push")
    assert "all are whole" in must(repo, *STORAGE, "verify")
    for command in ((*STORAGE, "pull"), (*DVC, "pull", "-q")):
        clone = fresh()
        must(clone, *command)
        assert outputs(clone) == outputs(repo)


def test_a_push_to_ceph_that_was_killed_ends_whole(
    repo: Path, ceph: Server, fresh: Callable
) -> None:
    use_server(repo, ceph)
    kill_pushes(repo, 4, lambda: objects(ceph, repo))
    must(repo, *STORAGE, "push")
    clone = fresh()
    must(clone, *STORAGE, "pull")
    assert outputs(clone) == outputs(repo)


@pytest.mark.parametrize("wrong", ["key", "secret"])
def test_wrong_credentials_for_ceph_end_in_one_line_without_a_secret(
    repo: Path, ceph: Server, wrong: str
) -> None:
    refuses_credentials(repo, ceph, wrong)


def test_a_bucket_that_ceph_lacks_ends_in_one_line_without_a_secret(
    repo: Path, ceph: Server
) -> None:
    misses_its_bucket(repo, ceph)


def test_a_flipped_byte_in_ceph_is_detected_and_replaced(
    repo: Path, ceph: Server, fresh: Callable
) -> None:
    use_server(repo, ceph)
    must(repo, *STORAGE, "push")
    files = file_system(ceph)
    path = next(path for path in objects(ceph, repo) if not path.endswith(".dir"))
    content = files.cat_file(path)
    assert isinstance(content, bytes)
    files.pipe_file(path, bytes([content[0] ^ 1]) + content[1:])
    clone = fresh()
    line = error_line(run_in(clone, *STORAGE, "pull"))
    assert "nothing was checked out" in line
    assert outputs(clone) == {}
    must(repo, *STORAGE, "push")
    assert files.cat_file(path) == content
    must(clone, *STORAGE, "pull")
    assert outputs(clone) == outputs(repo)
