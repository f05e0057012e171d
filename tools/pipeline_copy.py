"""Copy the repository, with other params, and run its pipeline there.

`make smoke`, `make verify-repro` and the tests of the pipeline do. A copy has its own
git history and DVC cache, so the working tree and its results stay as they are.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import yaml

from warpzone.core.errors import InputError
from warpzone.core.stage import argument_parser
from warpzone.core.yaml import CORE_TYPES, read_yaml

PARAMS = Path("params.yaml")
LOCK = Path("dvc.lock")
SMALL = Path("tests/smoke_params.yaml")
"""Laid over params.yaml, it makes the pipeline small."""
DVC = (sys.executable, "-m", "dvc")

_STARTED = "Running stage '"
_TAIL = 40
"""Lines of a log that are shown when a run fails."""


class PipelineError(RuntimeError):
    """A pipeline did not do what it has to, in one line."""


def run_check(name: str, docstring: str | None, check: Callable[..., str]) -> None:
    """Run a command that checks the pipeline in copies, which are removed in the end.

    Args:
        name: Of the command.
        docstring: Its help.
        check: Gets an empty folder and a log, returns what it found.
    """
    argument_parser(docstring).parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    began = time.monotonic()
    path = Path(f".dvc/tmp/{name}.log")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            # Line-buffered: whoever follows a long run sees where it is.
            path.open("w", buffering=1, encoding="utf-8") as log,
            tempfile.TemporaryDirectory(prefix="warpzone-") as folder,
        ):
            found = check(Path(folder).resolve(), log)
    except (PipelineError, InputError) as error:
        lines = path.read_text(encoding="utf-8").splitlines()
        print(*lines[-_TAIL:], sep="\n", file=sys.stderr)
        sys.exit(f"{name} failed: {error}; the whole log is {path}")
    except KeyboardInterrupt:
        print(f"{name} stopped; the log is {path}", file=sys.stderr)
        sys.exit(130)
    print(f"{name} passed in {time.monotonic() - began:.0f} s: {found}")


def copy_repository(
    root: Path, copy: Path, overlay: Mapping[str, Any] | None = None
) -> None:
    """Copy the files that git tracks or would track, without any results.

    Args:
        root: The repository.
        copy: A new folder. What is written beside a repository, such as temporary
            files, lands in its sibling ``temporary``.
        overlay: Laid over params.yaml.

    Raises:
        InputError: The overlay does not fit params.yaml.
    """
    for folder in (copy, _temporary_files(copy)):
        folder.mkdir(parents=True)
    command = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in sorted(set(_git(root, *command).split("\0")) - {""}):
        source, target = root / name, copy / name
        # Deleted but still in the index, or a submodule.
        if source.is_file() or source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    # Tracked metrics and plots of the last full run would hide one that is not written.
    for out in recorded_outputs(copy):
        if out.is_dir():
            shutil.rmtree(out)
        else:
            out.unlink(missing_ok=True)
    (copy / LOCK).unlink(missing_ok=True)
    if overlay:
        write_yaml(copy / PARAMS, lay_over(read_yaml(copy / PARAMS), overlay))

    # Whatever the user's own settings are.
    (copy / ".dvc/config.local").write_text("[cache]\n    dir = cache\n")
    _git(copy, "init", "--quiet", "--template=")
    _git(copy, "config", "user.name", "a copy")
    _git(copy, "config", "user.email", "copy@localhost")
    _git(copy, "config", "commit.gpgsign", "false")
    _git(copy, "config", "core.hooksPath", "/dev/null")
    _git(copy, "add", "--all")
    _git(copy, "commit", "--quiet", "--allow-empty", "--message", "The copy")


def lay_over(
    params: dict[str, Any], overlay: Mapping[str, Any], section: str = ""
) -> dict[str, Any]:
    """Return ``params`` with the values of ``overlay``; lists are replaced whole.

    In place of a section, null takes it out, if it is there.

    Raises:
        InputError: ``overlay`` has a key that ``params`` lacks, or a section in place
            of a value, or the reverse.
    """
    merged = dict(params)
    for key, value in overlay.items():
        name = f"{section}{key}"
        if value is None and key not in params:
            continue
        if key not in params:
            raise InputError(f"overlay: {PARAMS} has no {name}, only {[*params]}")
        old = params[key]
        if value is None and isinstance(old, dict):
            del merged[key]
            continue
        if isinstance(value, Mapping) != isinstance(old, dict):
            raise InputError(f"overlay: {name} is {value!r}, but {old!r} in {PARAMS}")
        merged[key] = (
            lay_over(old, value, f"{name}.") if isinstance(value, Mapping) else value
        )
    return merged


class _Dumper(yaml.SafeDumper):
    """Quotes a string that YAML 1.1 or 1.2 would take for anything else."""


for _tag, _pattern in CORE_TYPES.items():
    _Dumper.add_implicit_resolver(_tag, _pattern, None)


def write_yaml(path: Path, document: Any) -> None:
    """Write what readers of YAML 1.1 and 1.2, such as DVC, read alike."""
    text = yaml.dump(document, Dumper=_Dumper, sort_keys=False)
    path.write_text(text, encoding="utf-8")


def repro(copy: Path, log: TextIO, **variables: str) -> list[str]:
    """Run ``dvc repro`` and return the names of the stages that it ran.

    Args:
        copy: Where.
        log: Takes what it prints.
        variables: Of the environment, beside those that every command gets.

    Raises:
        PipelineError: ``dvc repro`` failed.
    """
    stages: list[str] = []
    began = time.monotonic()
    with subprocess.Popen(
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
    ) as process:
        try:
            for line in process.stdout or ():
                log.write(line)
                if line.startswith(_STARTED):
                    stages.append(line.removeprefix(_STARTED).split("'")[0])
                    seconds = time.monotonic() - began
                    print(f"  {seconds:6.1f} s  {stages[-1]}", flush=True)
        except BaseException:
            _stop(process)
            raise
    print(f"  {time.monotonic() - began:6.1f} s  done", flush=True)
    if process.returncode:
        at = f" in {stages[-1]}" if stages else ""
        raise PipelineError(f"dvc repro ended with status {process.returncode}{at}")
    return stages


def _stop(process: subprocess.Popen[str]) -> None:
    """End ``dvc repro`` and its stages: ask first, then insist."""
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def recorded_stages(copy: Path) -> dict[str, Any]:
    """Return the stages that dvc.lock records, none when there is no such file."""
    return read_yaml(copy / LOCK)["stages"] if (copy / LOCK).exists() else {}


def recorded_outputs(copy: Path) -> list[Path]:
    """Return the paths of the outputs that dvc.lock records."""
    stages = recorded_stages(copy).values()
    return [copy / out["path"] for stage in stages for out in stage.get("outs", [])]


def environment(folder: Path) -> dict[str, str]:
    """Return the variables for a command in ``folder``.

    ``python`` means this interpreter. Left out are the user's secrets and settings, and
    a git hook's variables, which would point git at the hook's repository.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "DVC_", "GIT_"))
    }
    here = Path(sys.executable).parent
    temporary = str(_temporary_files(folder))
    return kept | {
        "PATH": f"{here}{os.pathsep}{kept.get('PATH', os.defpath)}",
        "TMPDIR": temporary,
        "DVC_SITE_CACHE_DIR": temporary,
    }


def _temporary_files(copy: Path) -> Path:
    """Return the folder beside a copy that is removed with it."""
    return copy.with_name("temporary")


def _git(folder: Path, *arguments: str) -> str:
    """Run git in ``folder`` and return what it prints.

    Raises:
        PipelineError: git failed.
    """
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        reason = " ".join(done.stderr.split())
        raise PipelineError(f"git {arguments[0]}: {reason}")
    return done.stdout
