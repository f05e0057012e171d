"""Run the whole pipeline at small size in a throw-away copy of the working tree.

Copies what git tracks or would track, lays tests/smoke_params.yaml over params.yaml,
runs `dvc repro` until done, checks what it left, and runs it again, which must do
nothing. The copy has its own git history and DVC cache, so the working tree and its
results stay as they are. The copy is removed in the end; a failure keeps the log.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from ruamel.yaml import YAML

PARAMS = Path("params.yaml")
OVERLAY = Path("tests/smoke_params.yaml")
DVC = [sys.executable, "-m", "dvc"]
STARTED = "Running stage '"
TAIL = 40


class SmokeError(Exception):
    """What went wrong, for the reader."""


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    began = time.monotonic()
    descriptor, log_name = tempfile.mkstemp(prefix="warpzone-smoke-", suffix=".log")
    log_path = Path(log_name)
    # Line-buffered: whoever follows a long run sees where it is.
    with os.fdopen(descriptor, "w", buffering=1, encoding="utf-8") as log:
        try:
            with tempfile.TemporaryDirectory(prefix="warpzone-smoke-") as folder:
                check_pipeline(Path(folder).resolve() / "copy", log)
        except SmokeError as error:
            lines = log_path.read_text(encoding="utf-8").splitlines()
            print(*lines[-TAIL:], f"smoke failed: {error}", sep="\n", file=sys.stderr)
            keep_or_remove(log_path)
            sys.exit(1)
        except KeyboardInterrupt:
            print("smoke stopped", file=sys.stderr)
            keep_or_remove(log_path)
            sys.exit(130)
    log_path.unlink()
    print(f"smoke passed in {time.monotonic() - began:.0f} s")


def keep_or_remove(log_path: Path) -> None:
    """Say where the log is, or remove it if nothing was written to it."""
    if log_path.stat().st_size:
        print(f"smoke: the whole log is {log_path}", file=sys.stderr)
    else:
        log_path.unlink()


def interrupt(number: int, frame: object) -> None:
    """Treat a request to end like Ctrl-C, so that the copy is removed."""
    raise KeyboardInterrupt


def check_pipeline(copy: Path, log: TextIO) -> None:
    """Make ``copy``, run its pipeline twice and check both runs.

    Raises:
        SmokeError: A run failed, left an output out, or was repeated needlessly.
    """
    make_copy(copy)

    print("smoke: first run, everything")
    stages = repro(copy, log)
    files, size = check_outputs(copy, log)
    print(f"smoke: {len(stages)} stages wrote {files} files, {size / 1e6:.1f} MB")

    print("smoke: second run, nothing")
    before = (copy / "dvc.lock").read_bytes()
    if repeated := repro(copy, log):
        raise SmokeError(f"the second dvc repro ran {repeated}, expected nothing")
    if (copy / "dvc.lock").read_bytes() != before:
        raise SmokeError("the second dvc repro changed dvc.lock")


def make_copy(copy: Path) -> None:
    """Copy the working tree, with small values, to a repository of its own."""
    root = Path(git(Path.cwd(), "rev-parse", "--show-toplevel").rstrip("\n"))
    for folder in (copy, temporary_files(copy)):
        folder.mkdir(parents=True)
    copy_working_tree(root, copy)
    write_small_params(copy)
    isolate(copy)


def copy_working_tree(root: Path, copy: Path) -> None:
    """Copy the files that git tracks or would track, without any earlier results."""
    listed = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in sorted(set(listed.split("\0")) - {""}):
        source, target = root / name, copy / name
        # Deleted but still in the index, or a submodule.
        if not source.is_file() and not source.is_symlink():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)

    # Tracked metrics and plots of the last full run would hide one that is not written.
    for out in recorded_outputs(copy):
        if out.is_dir():
            shutil.rmtree(out)
        else:
            out.unlink(missing_ok=True)
    (copy / "dvc.lock").unlink(missing_ok=True)


def write_small_params(copy: Path) -> None:
    """Lay the small values over the copy's params.yaml.

    Raises:
        SmokeError: A file is missing or the overlay names a key that is not there.
    """
    for path in (PARAMS, OVERLAY):
        if not (copy / path).is_file():
            raise SmokeError(f"{path} is missing")
    yaml = YAML()
    params = yaml.load(copy / PARAMS)
    overlay = YAML(typ="safe").load(copy / OVERLAY)
    lay_over(params or {}, overlay or {})
    yaml.dump(params, copy / PARAMS)


def lay_over(params: Any, overlay: Mapping[str, Any], section: str = "") -> None:
    """Replace values of ``params`` by those of ``overlay``, in place.

    Sections are merged key by key; scalars and lists are replaced whole.

    Raises:
        SmokeError: ``overlay`` has a key that ``params`` lacks, or a section where
            ``params`` has a value, or the reverse.
    """
    for key, value in overlay.items():
        name = f"{section}{key}"
        if key not in params:
            raise SmokeError(f"{OVERLAY}: {PARAMS} has no {name}, only {[*params]}")
        if isinstance(value, Mapping) != isinstance(params[key], Mapping):
            raise SmokeError(
                f"{OVERLAY}: {name} is {value!r}, but {params[key]!r} in {PARAMS}"
            )
        if isinstance(value, Mapping):
            lay_over(params[key], value, f"{name}.")
        else:
            params[key] = value


def isolate(copy: Path) -> None:
    """Give the copy its own cache and history, whatever the user's settings are."""
    (copy / ".dvc/config.local").write_text("[cache]\n    dir = cache\n")
    git(copy, "init", "--quiet", "--template=")
    git(copy, "add", "--all")
    git(
        copy,
        *("-c", "user.name=smoke", "-c", "user.email=smoke@localhost"),
        *("-c", "commit.gpgsign=false", "-c", "core.hooksPath="),
        *("commit", "--quiet", "--allow-empty", "--message", "The copy"),
    )


def repro(copy: Path, log: TextIO, **variables: str) -> list[str]:
    """Run ``dvc repro`` and return the names of the stages that it ran.

    Args:
        copy: Where.
        log: Takes what it prints.
        variables: Of the environment, beside those that every command gets.

    Raises:
        SmokeError: ``dvc repro`` failed.
    """
    stages: list[str] = []
    began = time.monotonic()
    process = subprocess.Popen(
        [*DVC, "repro"],
        cwd=copy,
        env=environment(copy) | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # A group of its own: a stop reaches the stages too, and once.
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            log.write(line)
            if line.startswith(STARTED):
                stages.append(line.removeprefix(STARTED).split("'")[0])
                print(f"  {time.monotonic() - began:6.1f} s  {stages[-1]}", flush=True)
        status = process.wait()
    except BaseException:
        stop(process)
        raise
    print(f"  {time.monotonic() - began:6.1f} s  done", flush=True)
    if status != 0:
        at = f" in {stages[-1]}" if stages else ""
        raise SmokeError(f"dvc repro ended with exit status {status}{at}")
    return stages


def stop(process: subprocess.Popen[str]) -> None:
    """End ``dvc repro`` and its stages: ask first, then insist."""
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def check_outputs(copy: Path, log: TextIO) -> tuple[int, int]:
    """Check that every stage ran and left its outputs.

    Returns:
        The number of files written and their size in bytes.

    Raises:
        SmokeError: A stage is not in dvc.lock or an output is missing or empty.
    """
    listed = subprocess.run(
        [*DVC, "stage", "list", "--all", "--name-only"],
        cwd=copy,
        env=environment(copy),
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    if listed.returncode != 0 or not listed.stdout.split():
        raise SmokeError("dvc stage list names no stage")
    if missing := set(listed.stdout.split()) - set(recorded_stages(copy)):
        raise SmokeError(f"dvc repro did not run {sorted(missing)}")

    files = []
    for out in recorded_outputs(copy):
        written = [path for path in (out, *out.rglob("*")) if path.is_file()]
        if not sum(path.stat().st_size for path in written):
            raise SmokeError(f"{out.relative_to(copy)} is missing or empty")
        files += written
    return len(files), sum(path.stat().st_size for path in files)


def recorded_stages(copy: Path) -> dict[str, Any]:
    """Return the stages that dvc.lock records, none when there is no such file."""
    lock = copy / "dvc.lock"
    if not lock.is_file():
        return {}
    return (YAML(typ="safe").load(lock) or {}).get("stages") or {}


def recorded_outputs(copy: Path) -> list[Path]:
    """Return the paths of the outputs that dvc.lock records."""
    return [
        copy / out["path"]
        for stage in recorded_stages(copy).values()
        for out in stage.get("outs", [])
    ]


def environment(copy: Path) -> dict[str, str]:
    """Return the variables for a command in the copy.

    ``python`` means this interpreter, and what DVC writes beside a repository lands
    beside the copy. A git hook's variables are left out: they would point git at the
    repository that the hook belongs to.
    """
    variables = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    here = Path(sys.executable).parent
    variables["PATH"] = f"{here}{os.pathsep}{variables.get('PATH', os.defpath)}"
    variables["TMPDIR"] = variables["DVC_SITE_CACHE_DIR"] = str(temporary_files(copy))
    return variables


def temporary_files(copy: Path) -> Path:
    """Return the folder beside the copy that is removed with it."""
    return copy.with_name("temporary")


def git(folder: Path, *arguments: str) -> str:
    """Run git in ``folder`` and return what it prints.

    Raises:
        SmokeError: git failed or is not there.
    """
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=environment(folder),
            capture_output=True,
            text=True,
            check=True,
        )
    except FileNotFoundError:
        raise SmokeError("git is not installed") from None
    except subprocess.CalledProcessError as error:
        raise SmokeError(f"git {arguments[0]}: {error.stderr.strip()}") from None
    return done.stdout


if __name__ == "__main__":
    main()
