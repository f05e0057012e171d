"""A small DVC repository to break, and a real S3 server to break it with."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sized
from contextlib import chdir, closing
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import pytest
from dvc.repo import Repo
from s3fs import S3FileSystem

from tools import pipeline_copy
from tools.pipeline_copy import DVC
from tools.s3 import BUCKET, Server, serve
from tools.storage.__main__ import run
from tools.storage.errors import StorageError
from tools.storage.remote import CHECKSUMS
from warpzone.agents.model import save_agent
from warpzone.agents.policy import PolicyAgent, build_policy, make_deterministic
from warpzone.core.params import NoiseParams
from warpzone.envs.registry import make_env

ROOT = Path(__file__).parents[2]
REPRO = (sys.executable, "-m", "tools.repro")
STORAGE = (sys.executable, "-m", "tools.storage")

MAKE = """\
from pathlib import Path
import sys
word = Path("word.txt").read_text()
Path("models/deep").mkdir(parents=True)
for number in range(12):
    Path(f"models/{number}.txt").write_text(f"{word}{number}" * 40)
Path("models/deep/one.txt").write_text(word)
Path("table.csv").write_text(word * 30)
Path("metrics.json").write_text('{"a": 1}')
"""

DVC_YAML = """\
stages:
  make:
    cmd: python make.py
    deps: [make.py, word.txt]
    outs: [models, table.csv]
    metrics: [{metrics.json: {cache: false}}]
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Variables for a command in ``folder``: our tools, none of the user's secrets."""
    # A copy of the repository has tools and a library of its own.
    path = "" if (folder / "warpzone").is_dir() else str(ROOT)
    return pipeline_copy.environment(folder) | {
        "PYTHONPATH": path,
        "TMPDIR": gettempdir(),
        "HOME": str(folder.parent / "home"),
        "AWS_EC2_METADATA_DISABLED": "true",
        **more,
    }


def run_in(
    folder: Path, *command: str, timeout: float = 60, **more: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(folder, **more),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def begin(folder: Path, *command: str, **more: str) -> subprocess.Popen:
    """Start a command that says nothing, in a session of its own."""
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment(folder, **more),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_heed_signals,
    )


def _heed_signals() -> None:
    """Undo what a shell or nohup may have these tests inherit: ignored signals."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def written_pid(path: Path, writer: subprocess.Popen | None = None) -> int:
    """Wait for a process to write its pid; one below ``writer``, if that is given."""
    until = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < until
        assert writer is None or writer.poll() is None
        time.sleep(0.05)
    return int(path.read_text())


def must(folder: Path, *command: str) -> str:
    done = run_in(folder, *command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def init(folder: Path) -> None:
    """Make a folder a repository of git and DVC."""
    must(folder, "git", "init", "-q", "-b", "main")
    must(folder, "git", "config", "user.email", "a@example.com")
    must(folder, "git", "config", "user.name", "a")
    must(folder, *DVC, "init", "-q")


@pytest.fixture
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What `environment` sets, for commands that run in this process."""
    for name, value in (environment(tmp_path / "repo") | CHECKSUMS).items():
        monkeypatch.setenv(name, value)


def said(folder: Path, *words: str) -> str:
    """Run a command of tools.storage in this process."""
    with chdir(folder):
        return run(list(words))


def reproduce(folder: Path) -> None:
    """Run the pipeline as `dvc repro` does, in this process."""
    with chdir(folder), Repo() as repo:
        repo.reproduce()  # pyright: ignore[reportCallIssue]


def refused(folder: Path, *words: str) -> str:
    with pytest.raises(StorageError) as caught:
        said(folder, *words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def error_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that a failed command says."""
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def set_cache(folder: Path, place: Path) -> None:
    """Have the cache elsewhere, and outputs copied from there."""
    text = f"[cache]\ndir = {place}\ntype = copy\n"
    (folder / ".dvc/config.local").write_text(text)


def set_remote(folder: Path, url: str, **options: str) -> None:
    """As `dvc remote add --local --default` does, but at once."""
    lines = ["[core]", "remote = storage", """['remote "storage"']""", f"url = {url}"]
    lines += [f"{name} = {value}" for name, value in options.items()]
    (folder / ".dvc/config.local").write_text("\n".join(lines) + "\n")


def use_server(
    folder: Path, server: Server, bucket: str = BUCKET, keys: bool = True
) -> None:
    secrets = {"access_key_id": server.key, "secret_access_key": server.secret}
    set_remote(
        folder,
        f"s3://{bucket}/{folder.parent.name}",
        endpointurl=server.url,
        region="us-east-1",
        **(secrets if keys else {}),
    )


def file_system(server: Server) -> S3FileSystem:
    """Open a server's buckets, for looking into and for damaging them."""
    return S3FileSystem(
        key=server.key,
        secret=server.secret,
        client_kwargs={"endpoint_url": server.url, "region_name": "us-east-1"},
        use_listings_cache=False,
        skip_instance_cache=True,
    )


def kill_pushes(repo: Path, times: int, stored: Callable[[], Sized]) -> None:
    """Begin to push 40 more files, again and again, and kill it half way.

    Args:
        repo: Its remote is set.
        times: Pushes to begin.
        stored: Lists what the remote holds.
    """
    rng = random.Random(4)
    for number in range(40):
        (repo / f"models/more{number}.bin").write_bytes(rng.randbytes(300_000))
    must(repo, *DVC, "commit", "-q", "-f")
    must(repo, "git", "commit", "-qam", "More")
    interrupted = 0
    for _ in range(times):
        # Killed as soon as a few more objects have arrived.
        sent = len(stored()) + rng.randint(1, 8)
        pushing = begin(repo, *STORAGE, "push")
        while pushing.poll() is None and len(stored()) < sent:
            time.sleep(0.005)
        interrupted += pushing.poll() is None
        pushing.kill()
        pushing.wait()
    assert interrupted


def refuses_credentials(repo: Path, server: Server, wrong: str) -> None:
    """Check what a push says when the key or the secret is wrong."""
    use_server(repo, server._replace(**{wrong: "topsecret" * 3}))
    done = run_in(repo, *STORAGE, "push")
    assert "the server refuses these credentials" in error_line(done)
    for secret in ("topsecret", server.secret):
        assert secret not in done.stdout + done.stderr


def misses_its_bucket(repo: Path, server: Server) -> None:
    """Check what a push says when there is no such bucket."""
    use_server(repo, server, bucket="nowhere")
    done = run_in(repo, *STORAGE, "push")
    assert "there is no such bucket (NoSuchBucket: " in error_line(done)
    assert "create it, or correct s3://nowhere/" in error_line(done)
    assert server.secret not in done.stdout + done.stderr


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def outputs(folder: Path) -> dict[str, bytes]:
    table = folder / "table.csv"
    found = {"table.csv": table.read_bytes()} if table.is_file() else {}
    return found | contents(folder / "models")


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an agent of CartPole. To be copied."""
    folder = tmp_path_factory.mktemp("agent") / "bc"
    noise = NoiseParams(no_op_max=30, sticky_probability=0.25, sticky_unit="frame")
    with closing(make_env("cartpole", {}, "default", noise, ("state",))) as env:
        make_deterministic(1)
        policy = build_policy("cartpole", env.observation_space, 2, "state")  # pyright: ignore[reportArgumentType]
        save_agent(PolicyAgent(policy, "state", 0.0, None), folder, env, {"seed": 1})
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose pipeline has run. To be copied."""
    folder = tmp_path_factory.mktemp("made") / "repo"
    folder.mkdir()
    (folder / "make.py").write_text(MAKE)
    (folder / "dvc.yaml").write_text(DVC_YAML)
    (folder / "word.txt").write_text("word")
    init(folder)
    must(folder, *DVC, "repro", "-q")
    must(folder, "git", "add", "-A")
    must(folder, "git", "commit", "-qm", "Made")
    return folder


@pytest.fixture
def repo(made: Path, tmp_path: Path) -> Path:
    """A copy of it, to break."""
    folder = tmp_path / "repo"
    subprocess.run(["cp", "-a", made, folder], check=True)
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An S3 server over a real connection."""
    with serve(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def fresh(repo: Path) -> Callable[[], Path]:
    """Make a clone with the same remote and neither cache nor outputs."""
    count = 0

    def fresh() -> Path:
        nonlocal count
        count += 1
        clone = repo.parent / f"clone{count}"
        must(repo, "git", "clone", "-q", str(repo), str(clone))
        config = repo / ".dvc/config.local"
        (clone / ".dvc/config.local").write_bytes(config.read_bytes())
        return clone

    return fresh
