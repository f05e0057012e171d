"""Push, pull and verify against a real S3 server, and what they refuse."""

import json
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, closing, contextmanager, suppress
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import (  # pyright: ignore[reportMissingImports]
    DVC,
    ROOT,
    STORAGE,
    contents,
    file_system,
    kill_pushes,
    misses_its_bucket,
    must,
    outputs,
    refused,
    refuses_credentials,
    reproduce,
    run_in,
    said,
    set_remote,
    use_server,
)
from dvc.repo import Repo

from tools.s3 import BUCKET, Server, serve
from tools.storage.__main__ import run
from tools.storage.errors import StorageError
from tools.storage.listing import parse_listing
from tools.storage.remote import Remote, Watch

pytestmark = pytest.mark.usefixtures("surroundings")

NOWHERE = "no whole copy in cache, workspace or remote"
NOT_HERE = "no whole copy in cache or workspace"

# What README.md says that plain dvc needs.
AS_README: Any = dict(
    line.removeprefix("export ").split()[0].split("=")
    for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("export AWS_")
)


@pytest.fixture(params=["s3", "folder"])
def remote(repo: Path, request: pytest.FixtureRequest) -> Path:
    """The remote of ``repo``; return the folder that its objects are in."""
    if request.param == "folder":
        set_remote(repo, str(repo.parent / "remote"))
        return repo.parent / "remote/files/md5"
    server = request.getfixturevalue("server")
    use_server(repo, server)
    [folder] = server.process.args[3:4]
    return Path(folder, BUCKET, repo.parent.name, "files/md5")


@pytest.fixture
def pushed(repo: Path, remote: Path) -> Path:
    said(repo, "push")
    return remote


only_s3 = pytest.mark.parametrize("remote", ["s3"], indirect=True)


def objects(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def write(path: Path, content: bytes) -> None:
    """Change a file as a failing disk does: its times stay as they are."""
    times = path.stat()
    path.chmod(0o644)
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    path.chmod(times.st_mode & 0o777)


def flip(path: Path, position: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    write(path, bytes(content))


def status(repo: Path) -> dict[str, Any]:
    """What `dvc status` has to say."""
    with chdir(repo), Repo() as opened:
        return opened.status()


def cache(repo: Path) -> Path:
    return repo / ".dvc/cache/files/md5"


# ---------------------------------------------------------------- round trips


def test_what_is_pushed_is_pulled(repo: Path, pushed: Path, fresh: Callable) -> None:
    clone = fresh()
    assert "pulled 15 of 15 objects" in said(clone, "pull")
    assert outputs(clone) == outputs(repo)
    assert status(clone) == {}
    assert contents(pushed) == contents(cache(clone))


@only_s3
def test_dvc_itself_pulls_what_was_pushed(pushed: Path, fresh: Callable) -> None:
    clone = fresh()
    assert run_in(clone, *DVC, "pull", **AS_README).returncode == 0
    assert "all are whole" in said(clone, "verify")


@only_s3
def test_dvc_itself_pushes_what_is_pulled(
    repo: Path, remote: Path, fresh: Callable
) -> None:
    done = run_in(repo, *DVC, "push", **AS_README)
    assert done.returncode == 0, done.stderr
    clone = fresh()
    said(clone, "pull")
    assert outputs(clone) == outputs(repo)


@only_s3
def test_dvc_itself_refuses_damage_on_a_remote_to_be_verified(
    repo: Path, pushed: Path, fresh: Callable
) -> None:
    config = repo / ".dvc/config.local"
    config.write_text(f"{config.read_text()}verify = true\n")
    damaged = next(path for path in objects(pushed) if path.suffix != ".dir")
    content = damaged.read_bytes()
    flip(damaged)
    clone = fresh()
    assert run_in(clone, *DVC, "pull", **AS_README).returncode != 0
    write(damaged, content)
    assert run_in(clone, *DVC, "pull", **AS_README).returncode == 0
    assert outputs(clone) == outputs(repo)


def test_a_second_push_sends_nothing(repo: Path, pushed: Path) -> None:
    assert "pushed 0 of 15" in said(repo, "push")


@pytest.mark.slow
def test_experiments_travel_with_their_data(
    repo: Path, remote: Path, fresh: Callable
) -> None:
    must(repo, "git", "init", "-q", "--bare", str(repo.parent / "bare"))
    must(repo, "git", "remote", "add", "origin", str(repo.parent / "bare"))
    must(repo, "git", "push", "-q", "origin", "main")
    (repo / "word.txt").write_text("other")
    must(repo, *DVC, "exp", "run", "-q", "-n", "variant")
    wanted = outputs(repo)
    must(repo, "git", "checkout", "-q", ".")
    must(repo, *DVC, "checkout", "-q")
    text = said(repo, "push", "--experiments", "origin")
    assert "1 experiments" in text

    clone = fresh()
    must(clone, "git", "remote", "set-url", "origin", str(repo.parent / "bare"))
    said(clone, "pull", "--experiments", "origin")
    must(clone, *DVC, "exp", "apply", "-q", "variant")
    assert outputs(clone) == wanted


@pytest.mark.slow
def test_refs_of_experiments_wait_for_their_data(repo: Path, remote: Path) -> None:
    must(repo, "git", "init", "-q", "--bare", str(repo.parent / "bare"))
    must(repo, "git", "remote", "add", "origin", str(repo.parent / "bare"))
    must(repo, "git", "push", "-q", "origin", "main")
    (repo / "word.txt").write_text("other")
    must(repo, *DVC, "exp", "run", "-q", "-n", "variant")
    must(repo, "git", "checkout", "-q", ".")
    must(repo, *DVC, "checkout", "-q")
    lost = md5(b"other").hexdigest()
    (cache(repo) / lost[:2] / lost[2:]).unlink()
    error = refused(repo, "push", "--experiments", "origin")
    assert NOWHERE in error
    assert "refs/exps" not in must(repo, "git", "ls-remote", "origin")


# ------------------------------------------------------- damage on the remote


def test_a_flipped_byte_on_the_remote_stops_the_pull(
    pushed: Path, fresh: Callable
) -> None:
    flip(objects(pushed)[3])
    clone = fresh()
    error = refused(clone, "pull")
    assert NOWHERE in error
    assert "nothing was checked out" in error
    assert outputs(clone) == {}


def test_a_push_replaces_what_is_damaged_on_the_remote(
    repo: Path, pushed: Path, fresh: Callable
) -> None:
    before = contents(pushed)
    flip(objects(pushed)[3])
    assert "pushed 1 of 15" in said(repo, "push")
    assert contents(pushed) == before


def test_a_push_from_a_clone_without_data_confirms_what_is_there(
    pushed: Path, fresh: Callable
) -> None:
    clone = fresh()
    assert "pushed 0 of 15" in said(clone, "push")
    flip(objects(pushed)[3])
    assert NOWHERE in refused(fresh(), "push")


# --------------------------------------------------------- damage in the cache


def test_a_flipped_byte_in_the_cache_is_healed_from_the_workspace(repo: Path) -> None:
    before = contents(cache(repo))
    damaged = next(path for path in objects(cache(repo)) if path.suffix != ".dir")
    flip(damaged)
    wrong = damaged.read_bytes()
    assert "healed 1 objects" in said(repo, "verify", "--local")
    assert contents(cache(repo)) == before
    # Moved aside, never deleted.
    assert list(contents(repo / ".dvc/cache/quarantine").values()) == [wrong]


def test_a_damaged_listing_is_made_again_from_the_workspace(repo: Path) -> None:
    [listing] = cache(repo).rglob("*.dir")
    before = listing.read_bytes()
    flip(listing)
    assert "healed 1 objects" in said(repo, "verify", "--local")
    assert listing.read_bytes() == before


def test_a_flipped_byte_in_the_cache_is_healed_from_the_remote(
    repo: Path, pushed: Path
) -> None:
    before = contents(cache(repo))
    table = md5((repo / "table.csv").read_bytes()).hexdigest()
    flip(cache(repo) / table[:2] / table[2:])
    (repo / "table.csv").unlink()
    text = said(repo, "verify")
    assert "healed 1 objects; restored 1 outputs" in text
    assert contents(cache(repo)) == before


def test_a_flipped_byte_in_the_cache_is_not_pushed(repo: Path, remote: Path) -> None:
    table = md5((repo / "table.csv").read_bytes()).hexdigest()
    flip(cache(repo) / table[:2] / table[2:])
    (repo / "table.csv").unlink()
    error = refused(repo, "push")
    assert f"({table}): {NOWHERE}" in error
    assert not list(remote.rglob("*.dir"))


def test_damage_to_an_object_that_dvc_lock_does_not_name_is_set_aside(
    repo: Path,
) -> None:
    # DVC's run cache keeps metrics, too, and would bring the damaged one back.
    metrics = md5((repo / "metrics.json").read_bytes()).hexdigest()
    flip(cache(repo) / metrics[:2] / metrics[2:])
    assert "1 set aside" in said(repo, "verify")
    assert not (cache(repo) / metrics[:2] / metrics[2:]).exists()


def test_what_is_lost_everywhere_is_named(repo: Path) -> None:
    (repo / "table.csv").unlink()
    table = objects(cache(repo))
    for path in table:
        if not path.name.endswith(".dir"):
            path.unlink()
    error = refused(repo, "verify")
    assert "table.csv" in error
    assert NOT_HERE in error


# ----------------------------------------------------- damage in the workspace


def test_a_flipped_byte_in_the_workspace_is_restored_and_kept_aside(
    repo: Path,
) -> None:
    before = outputs(repo)
    assert status(repo) == {}
    flip(repo / "models/3.txt")
    # This is why verify does not ask DVC.
    assert status(repo) == {}
    assert "restored 1 outputs" in said(repo, "verify")
    assert outputs(repo) == before
    [aside] = (repo / ".dvc/cache/quarantine").iterdir()
    assert contents(aside) != {}


@pytest.mark.parametrize("kind", ["deleted", "added", "truncated", "linked"])
def test_a_folder_in_the_workspace_is_compared_whole(repo: Path, kind: str) -> None:
    before = outputs(repo)
    victim = repo / "models/deep/one.txt"
    match kind:
        case "deleted":
            victim.unlink()
        case "added":
            victim.with_name("two.txt").write_text("two")
        case "truncated":
            write(victim, b"")
        case "linked":
            (repo / "models").rename(repo / "elsewhere")
            (repo / "models").symlink_to("elsewhere")
    assert "restored 1 outputs" in said(repo, "verify")
    assert outputs(repo) == before


def test_a_changed_metric_is_reported_and_left_alone(repo: Path) -> None:
    (repo / "metrics.json").write_text('{"a": 2}')
    error = refused(repo, "verify")
    assert "metrics.json: is not what dvc.lock records" in error
    assert "git checkout metrics.json" in error
    assert (repo / "metrics.json").read_text() == '{"a": 2}'


def test_a_pull_puts_unsaved_work_aside(repo: Path, pushed: Path) -> None:
    (repo / "table.csv").write_text("work of a day")
    said(repo, "pull")
    kept = contents(repo / ".dvc/cache/quarantine")
    assert list(kept.values()) == [b"work of a day"]


def test_a_pull_puts_nothing_aside_that_the_cache_holds(
    repo: Path, pushed: Path
) -> None:
    old = (repo / "dvc.lock").read_bytes()
    (repo / "word.txt").write_text("new")
    reproduce(repo)
    assert (repo / "dvc.lock").read_bytes() != old
    (repo / "dvc.lock").write_bytes(old)
    must(repo, "git", "checkout", "metrics.json")
    said(repo, "pull")
    assert not (repo / ".dvc/cache/quarantine").exists()


def test_an_output_that_is_gone_may_be_left_out(repo: Path) -> None:
    (repo / "table.csv").unlink()
    [path] = [
        path
        for path in objects(cache(repo))
        if path.read_bytes().startswith(b"wordword")
    ]
    path.unlink()
    assert NOT_HERE in refused(repo, "verify", "--local")
    assert "2 outputs" in said(repo, "verify", "--local", "--present")
    flip(repo / "models/3.txt")
    assert "restored 1 outputs" in said(repo, "verify", "--local", "--present")


KILL = """
import os
from tools.storage import cache
from tools.storage.__main__ import main
real = cache.oid_of
def kill(path):
    return os.kill(os.getpid(), 9) if path.name == "new" else real(path)
cache.oid_of = kill
main(["verify", "--local"])
"""


def test_what_a_killed_checkout_leaves_is_beside_no_output_and_swept(
    repo: Path,
) -> None:
    flip(repo / "models/3.txt")
    before = sorted(repo.iterdir()), outputs(repo)
    assert run_in(repo, sys.executable, "-c", KILL).returncode == -9
    assert (sorted(repo.iterdir()), outputs(repo)) == before
    assert contents(repo / ".dvc/tmp/storage")
    assert "restored 1 outputs" in said(repo, "verify", "--local")
    assert not contents(repo / ".dvc/tmp/storage")


def test_what_a_kill_leaves_in_the_cache_is_swept(repo: Path) -> None:
    [folder, *_] = sorted((repo / ".dvc/cache/files/md5").iterdir())
    left = folder / ".0dZl4kqUTpSbJ0rQ6yqVxw.tmp"
    left.write_text("half")
    assert "all are whole" in said(repo, "verify", "--local")
    assert not left.exists()


# -------------------------------------------------------------- many at random


def damaged(content: bytes, rng: random.Random) -> bytes | None:
    """Flip a bit, cut, or (None) delete."""
    match rng.choice(["flip", "flip", "cut", "delete"]):
        case "flip":
            position, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
            flipped = bytes([content[position] ^ bit])
            return content[:position] + flipped + content[position + 1 :]
        case "cut":
            return content[: rng.randrange(len(content))]
        case _:
            return None


@pytest.mark.slow
def test_250_random_faults_in_the_cache_are_detected(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repo)
    for name in ("models", "table.csv"):
        (repo / name).rename(repo.parent / name)
    # Nothing here to heal from.
    rng = random.Random(1)
    metrics = md5((repo / "metrics.json").read_bytes()).hexdigest()
    whole = [path for path in objects(cache(repo)) if path.name != metrics[2:]]
    for _ in range(250):
        victim = rng.choice(whole)
        content = victim.read_bytes()
        wrong = damaged(content, rng)
        if wrong is None:
            victim.unlink()
        else:
            write(victim, wrong)
        with pytest.raises(StorageError, match=NOT_HERE):
            run(["verify", "--local"])
        victim.write_bytes(content)
    assert "all are whole" in run(["verify", "--local"])


@pytest.mark.slow
def test_250_random_faults_on_the_remote_are_detected(
    repo: Path, server: Server, fresh: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_server(repo, server)
    said(repo, "push")
    clone = fresh()
    monkeypatch.chdir(clone)
    # Through the server: what it says of an object fits what it sends.
    far = file_system(server)
    run(["pull"])
    rng = random.Random(2)
    names = sorted(
        path.parent.name + path.name for path in objects(cache(clone)) if path.is_file()
    )
    for number in range(250):
        name = rng.choice(names)
        here = cache(clone) / name[:2] / name[2:]
        there = f"{BUCKET}/{repo.parent.name}/files/md5/{name[:2]}/{name[2:]}"
        content = here.read_bytes()
        wrong = damaged(content, rng)
        if wrong is None:
            far.rm_file(there)
        else:
            far.pipe_file(there, wrong)
        # Lose what the object could be healed from.
        here.unlink()
        for out in ("models", "table.csv"):
            if (clone / out).exists():
                (clone / out).rename(clone.parent / f"{out}{number}")
        with pytest.raises(StorageError, match=NOWHERE):
            run(["pull"])
        assert outputs(clone) == {}
        far.pipe_file(there, content)
        here.write_bytes(content)
    assert "all are whole" in run(["pull"])
    assert outputs(clone) == outputs(repo)


# --------------------------------------------------------------- bad listings


def listing(*names: str) -> bytes:
    return json.dumps([{"md5": "0" * 32, "relpath": name} for name in names]).encode()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (listing("/etc/passwd"), "no path inside of the folder"),
        (listing("../escaped"), "no path inside of the folder"),
        (listing("a/../../escaped"), "no path inside of the folder"),
        (listing("a//b"), "no path inside of the folder"),
        (listing("./a"), "no path inside of the folder"),
        (listing(""), "no path inside of the folder"),
        (listing("a\0b"), "no path inside of the folder"),
        (listing("..\\escaped"), "no path inside of the folder"),
        (listing("a", "a"), "comes twice"),
        (listing("a", "a/b"), "is below a file"),
        (b'[{"md5": "../../x", "relpath": "a"}]', "not an MD5"),
        (b'[{"md5": 1, "relpath": "a"}]', "not an MD5"),
        (b'[{"relpath": "a"}]', "is not the listing"),
        (b'[{"md5": "x", "relpath": 1}]', "is not the listing"),
        (b"[1]", "is not the listing"),
        (b"{}", "is not the listing"),
        (b"\x80", "is not the listing"),
        (b"[" * 100_000, "is not the listing"),
    ],
)
def test_a_bad_listing_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(StorageError, match=reason):
        parse_listing(content, "oid")


@pytest.mark.parametrize("remote", ["folder"], indirect=True)
def test_a_listing_that_leads_out_of_the_folder_writes_nothing(
    repo: Path, pushed: Path, fresh: Callable
) -> None:
    # Whoever can write dvc.lock and the remote gives the listing its right hash.
    stolen = md5(b"evil").hexdigest()
    evil = json.dumps([{"md5": stolen, "relpath": "../../escaped.txt"}]).encode()
    name = f"{md5(evil).hexdigest()}.dir"
    for oid, content in ((stolen, b"evil"), (name, evil)):
        (pushed / oid[:2]).mkdir(exist_ok=True)
        (pushed / oid[:2] / oid[2:]).write_bytes(content)
    clone = fresh()
    lock = (clone / "dvc.lock").read_text()
    [old] = {line for line in lock.split() if line.endswith(".dir")}
    (clone / "dvc.lock").write_text(lock.replace(old, name))
    before = sorted(path.name for path in clone.parent.iterdir())
    error = refused(clone, "pull")
    assert "'../../escaped.txt' is no path inside of the folder" in error
    assert outputs(clone) == {}
    assert sorted(path.name for path in clone.parent.iterdir()) == before


def test_a_hash_that_is_a_path_is_refused(repo: Path) -> None:
    lock = (repo / "dvc.lock").read_text()
    table = md5((repo / "table.csv").read_bytes()).hexdigest()
    (repo / "dvc.lock").write_text(lock.replace(table, "../../../../etc/passwd"))
    error = refused(repo, "verify")
    assert "not an MD5" in error


def test_a_link_out_of_the_repository_is_not_followed(
    repo: Path, pushed: Path, fresh: Callable
) -> None:
    clone = fresh()
    text = (clone / "dvc.lock").read_text().replace("path: models", "path: in/models")
    (clone / "dvc.lock").write_text(text)
    text = (clone / "dvc.yaml").read_text().replace("outs: [models", "outs: [in/models")
    (clone / "dvc.yaml").write_text(text)
    outside = clone.parent / "outside"
    outside.mkdir()
    (clone / "in").symlink_to(outside)
    refused(clone, "pull")
    assert list(outside.iterdir()) == []


# ----------------------------------------------------------- servers that fail


def patience(repo: Path, command: str) -> str:
    """Run a command that must fail, and give up, within 15 s."""
    began = time.monotonic()
    error = refused(repo, command)
    assert time.monotonic() - began < 15
    return error


@pytest.mark.parametrize("command", ["push", "pull", "verify"])
def test_a_server_that_is_gone_is_given_up(repo: Path, command: str) -> None:
    with serve(repo.parent / "s3") as server:
        use_server(repo, server)
    assert "the server does not answer" in patience(repo, command)


@pytest.mark.parametrize("command", ["push", "pull"])
@pytest.mark.slow
def test_a_server_that_stalls_is_given_up(repo: Path, command: str) -> None:
    with serve(repo.parent / "s3") as server:
        use_server(repo, server)
        os.kill(server.process.pid, signal.SIGSTOP)
        assert "the server does not answer" in patience(repo, command)


class Proxy:
    """Passes bytes on to a server until told to stop, or after so many bytes."""

    def __init__(self, server: Server, limit: int, then: str) -> None:
        self.target = int(server.url.rsplit(":", 1)[1])
        self.left, self.then = limit, then
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.sockets: list[socket.socket] = []
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self) -> None:
        for one in (self.listener, *self.sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.target))
            self.sockets += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(
                    target=self.pass_on, args=(one, other), daemon=True
                ).start()

    def pass_on(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while content := source.recv(4096):
                self.left -= len(content)
                if self.left < 0:
                    if self.then == "cut":
                        self.close()
                    return
                target.sendall(content)
        except OSError:
            return


@pytest.mark.parametrize("then", ["cut", "stall"])
@pytest.mark.parametrize("command", ["push", "pull"])
@pytest.mark.slow
def test_a_server_that_fails_half_way_is_given_up_and_the_rest_follows(
    repo: Path, server: Server, fresh: Callable, command: str, then: str
) -> None:
    big = repo / "models/big.bin"
    big.write_bytes(random.Random(3).randbytes(3_000_000))
    must(repo, *DVC, "commit", "-q", "-f")
    must(repo, "git", "commit", "-qam", "Big")
    use_server(repo, server)
    if command == "pull":
        said(repo, "push")
    clone = fresh() if command == "pull" else repo
    config = clone / ".dvc/config.local"
    direct = config.read_text()
    before = outputs(clone)
    with closing(Proxy(server, 1_000_000, then)) as proxy:
        config.write_text(direct.replace(server.url, proxy.url))
        assert "the server does not answer" in patience(clone, command)
    assert outputs(clone) == before
    config.write_text(direct)
    said(clone, command)
    assert outputs(clone) == outputs(repo)
    assert "pushed 0 of" in said(repo, "push")


@pytest.mark.slow
@only_s3
def test_a_push_that_was_killed_ten_times_ends_whole(
    repo: Path, remote: Path, fresh: Callable
) -> None:
    kill_pushes(repo, 10, lambda: objects(remote))
    said(repo, "push")
    clone = fresh()
    said(clone, "pull")
    assert outputs(clone) == outputs(repo)


@contextmanager
def answering(code: str, status: int = 403, after: float = 0) -> Iterator[str]:
    """A server that answers everything with an S3 error; yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(after)
            body = f"<Error><Code>{code}</Code><Message>It is so.</Message></Error>"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def at(repo: Path, url: str, **options: str) -> None:
    keys = {"access_key_id": "topkey", "secret_access_key": "topsecret"}
    set_remote(repo, "s3://any/any", endpointurl=url, region="any", **keys, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "status", "reason", "hint"),
    [
        ("RequestTimeTooSkewed", 403, "refuses this machine's time", "set the clock"),
        ("ExpiredToken", 400, "refuses the session token", "AWS_SESSION_TOKEN"),
        ("InvalidToken", 400, "refuses the session token", "AWS_SESSION_TOKEN"),
        ("InvalidAccessKeyId", 403, "refuses these credentials", "check the key"),
        ("SignatureDoesNotMatch", 403, "refuses these credentials", "the secret"),
        ("AccessDenied", 403, "does not allow this", "PutObject for s3://any/any"),
        ("NeverHeardOf", 403, "refuses these credentials", "AWS_ACCESS_KEY_ID"),
        ("NeverHeardOf", 400, "refuses the request", ""),
        ("NoSuchBucket", 404, "no such bucket", "create it, or correct s3://any/any"),
        ("AuthorizationHeaderMalformed", 400, "in another region", "storage region"),
        ("QuotaExceeded", 403, "the storage is full", "make room there"),
        ("XMinioStorageFull", 507, "the storage is full", "make room there"),
        ("SlowDown", 503, "too many requests", "modify --local storage jobs 4"),
        ("TooManyRequests", 429, "too many requests", "run it again later"),
        ("InternalError", 500, "the server failed", "try later"),
    ],
)
def test_what_a_server_answers_is_told_with_the_remedy(
    repo: Path, code: str, status: int, reason: str, hint: str
) -> None:
    with answering(code, status) as url, chdir(repo):
        at(repo, url)
        with pytest.raises(StorageError) as caught:
            run(["push"])
    assert caught.value.op == "push"
    assert caught.value.path == "remote 'storage'"
    assert reason in caught.value.reason
    assert f"({code}: It is so.)" in caught.value.reason
    assert hint in caught.value.hint
    assert bool(hint) == bool(caught.value.hint)


@pytest.mark.slow
def test_a_slow_server_gets_the_time_that_the_remote_says(repo: Path) -> None:
    with answering("AccessDenied", after=12) as url:
        at(repo, url, read_timeout="30")
        assert "AccessDenied" in refused(repo, "push")


def test_only_a_transfer_can_stall() -> None:
    watch = Watch(0)
    time.sleep(0.01)
    watch.check()
    with watch.transfer():
        time.sleep(0.01)
        with pytest.raises(TimeoutError):
            watch.check()
    watch.check()


def test_a_transfer_may_stall_for_as_long_as_the_remote_says(
    repo: Path, server: Server
) -> None:
    use_server(repo, server)
    with Repo(str(repo)) as opened:
        config: Any = opened.config["remote"]["storage"]
        assert Remote(opened).watch.seconds == 9
        for ours, theirs in ((1, 9), (60, 121)):
            config |= {"read_timeout": ours, "jobs": 3}
            remote = Remote(opened)
            assert remote.watch.seconds == theirs
            assert config["read_timeout"] == max(ours, 4)
            assert remote.threads == 3


def test_a_server_that_is_given_up_has_the_option_for_more_time_named(
    repo: Path,
) -> None:
    with serve(repo.parent / "s3") as server:
        use_server(repo, server)
    error = patience(repo, "push")
    assert "`dvc remote modify --local storage read_timeout 60`" in error
    assert "connect_timeout" in error


# ---------------------------------------------------------------- credentials


@pytest.mark.parametrize("wrong", ["key", "secret"])
def test_wrong_credentials_end_in_one_line_without_a_secret(
    repo: Path, server: Server, wrong: str
) -> None:
    refuses_credentials(repo, server, wrong)


def test_no_credentials_end_in_one_line(repo: Path, server: Server) -> None:
    use_server(repo, server, keys=False)
    assert "no credentials: set AWS_ACCESS_KEY_ID" in patience(repo, "push")


def test_a_missing_bucket_ends_in_one_line_without_a_secret(
    repo: Path, server: Server
) -> None:
    misses_its_bucket(repo, server)


def test_credentials_may_come_from_the_environment(repo: Path, server: Server) -> None:
    use_server(repo, server, keys=False)
    done = run_in(
        repo,
        *STORAGE,
        "push",
        AWS_ACCESS_KEY_ID=server.key,
        AWS_SECRET_ACCESS_KEY=server.secret,
    )
    assert done.returncode == 0, done.stderr


def test_without_a_remote_one_line_says_how_to_get_one(repo: Path) -> None:
    assert "no remote is set: `make s3`" in refused(repo, "push")
