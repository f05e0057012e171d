"""The way from a bare clone to what runs: the venv and the lock."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
BASE_PYTHON = Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def requirement_blocks() -> list[str]:
    """Split the lock into requirements, each with its hashes."""
    return re.findall(r"^[a-z0-9].*(?:\n[ ]+--hash.*)*", LOCK, flags=re.MULTILINE)


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_requirement_is_pinned_and_has_a_hash() -> None:
    blocks = requirement_blocks()
    assert len(blocks) > 100
    for block in blocks:
        assert re.match(r"[a-z0-9-]+==[^ ]+ ", block), block
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block


def test_the_lock_names_no_host_and_no_folder() -> None:
    code = "\n".join(line for line in LOCK.splitlines() if "# " not in line)
    assert "//" not in LOCK
    assert "/" not in code
    assert "--index-url" not in LOCK
    assert "--find-links" not in LOCK


def test_the_lock_covers_what_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    names = {normal(re.split(r"[\[<>=!~ ]", line)[0]) for line in asked}
    assert names >= {"torch", "nes-py", "pyyaml", "pytest"}
    assert names <= {normal(block.split("==")[0]) for block in requirement_blocks()}


def tracked_texts() -> dict[str, str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    texts = {}
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if not path.is_file():
            continue
        try:
            texts[name] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return texts


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("a home folder", r"(?<![\w.-])/(?:root|home/\w+|Users/\w+)/"),
        ("this checkout", rf"(?<![\w.-]){re.escape(str(ROOT))}/"),
        ("a package registry", r"py(?:pi\.org|thonhosted\.org)"),
        ("credentials in an address", r"://[^/\s:@]+:[^/\s:@]+@"),
        ("an AWS key", r"\bA(?:KIA|SIA)[0-9A-Z]{16}\b"),
        ("a private key", r"-----BEGIN [A-Z ]*PRIVATE"),
    ],
)
def test_no_tracked_file_names(what: str, pattern: str) -> None:
    found = [name for name, text in tracked_texts().items() if re.search(pattern, text)]
    assert not found, f"{what} is named in {found}"


# tools/setup_venv.sh


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Make a repository with the set-up script and the least that it needs."""
    folder = tmp_path / "a clone"
    (folder / "tools").mkdir(parents=True)
    shutil.copy(ROOT / "tools/setup_venv.sh", folder / "tools")
    (folder / "warpzone").mkdir()
    (folder / "warpzone/__init__.py").touch()
    (folder / "requirements.lock").write_text("# nothing\n")
    return folder


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Make a PATH on which there is neither Python nor uv."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("cat", "cmp", "dirname", "mv", "rm", "sed", "sh"):
        found = shutil.which(name)
        assert found, name
        (folder / name).symlink_to(found)
    return folder


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def add_python(programs: Path) -> None:
    write_program(programs / "python3.13", f'exec "{BASE_PYTHON}" "$@"')


def add_uv(programs: Path, install: str = "exit 0") -> None:
    """Add a uv that makes real venvs and runs ``install`` instead of installing."""
    make = f'exec "{BASE_PYTHON}" -m venv --without-pip .venv'
    write_program(
        programs / "uv", f'case "$1" in venv) {make};; pip) {install};; esac; exit 2'
    )


def set_up(
    clone: Path, programs: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "tools/setup_venv.sh"],
        cwd=clone,
        env={"PATH": str(programs), "HOME": str(programs.parent)} | variables,
        capture_output=True,
        text=True,
    )


def test_without_python_3_13_one_line_says_how_to_get_it(
    clone: Path, programs: Path
) -> None:
    write_program(programs / "python3", "exit 1")
    done = set_up(clone, programs)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("Warpzone needs Python 3.13 and found none")
    assert "uv python install 3.13" in line
    assert not (clone / ".venv").exists()


def test_a_shim_that_fails_is_passed_over_for_the_pyenv_version(
    clone: Path, programs: Path
) -> None:
    write_program(programs / "python3.13", "echo not selected; exit 127")
    write_program(
        programs.parent / ".pyenv/versions/3.13.9/bin/python3.13",
        f'echo asked > "{programs}/log"; exec "{BASE_PYTHON}" "$@"',
    )
    add_uv(programs)
    done = set_up(clone, programs)
    assert done.returncode == 0, done.stderr
    assert (programs / "log").exists()


def test_a_python_that_only_uv_knows_is_found(clone: Path, programs: Path) -> None:
    write_program(
        programs / "uv",
        f"""case "$1" in
        python) echo "{BASE_PYTHON}" ;;
        venv) exec "{BASE_PYTHON}" -m venv --without-pip .venv ;;
        esac""",
    )
    done = set_up(clone, programs)
    assert done.returncode == 0, done.stderr
    assert (clone / ".venv/bin/python").exists()


def test_a_second_call_builds_nothing_until_the_lock_changes(
    clone: Path, programs: Path
) -> None:
    add_python(programs)
    add_uv(programs)
    assert "Building .venv with uv" in set_up(clone, programs).stdout
    assert set_up(clone, programs).stdout == ""
    (clone / "requirements.lock").write_text("# something else\n")
    assert "Building" in set_up(clone, programs).stdout
    assert set_up(clone, programs).stdout == ""


def test_an_install_that_failed_is_done_again(clone: Path, programs: Path) -> None:
    add_python(programs)
    add_uv(programs, install="exit 7")
    assert set_up(clone, programs).returncode == 7
    add_uv(programs)
    assert "Building" in set_up(clone, programs).stdout
    assert set_up(clone, programs).stdout == ""


def test_a_moved_clone_builds_its_venv_anew(clone: Path, programs: Path) -> None:
    add_python(programs)
    add_uv(programs)
    assert set_up(clone, programs).returncode == 0
    moved = clone.rename(clone.parent / "moved")
    assert "Building" in set_up(moved, programs).stdout


def test_a_copy_of_the_repository_imports_its_own_library(
    clone: Path, programs: Path
) -> None:
    add_python(programs)
    add_uv(programs)
    assert set_up(clone, programs).returncode == 0
    (clone / "stages").mkdir()
    (clone / "stages/one.py").write_text("import warpzone\nprint(warpzone.__file__)\n")
    copy = clone.parent / "copy"
    shutil.copytree(clone, copy, ignore=shutil.ignore_patterns(".venv"))
    for folder in (clone, copy):
        done = subprocess.run(
            [clone / ".venv/bin/python", "stages/one.py"],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert done.stdout.strip() == str(folder / "warpzone/__init__.py"), done.stderr


@pytest.mark.slow
def test_pip_installs_what_has_the_right_hash_only(clone: Path, programs: Path) -> None:
    add_python(programs)
    wheel = write_tiny_wheel(clone.parent, "tiny", {"tiny.py": ""})
    right = sha256(wheel.read_bytes()).hexdigest()
    for digest in ("0" * 64, right):
        (clone / "requirements.lock").write_text(
            f"tiny @ {wheel.as_uri()} --hash=sha256:{digest}\n"
        )
        done = set_up(clone, programs)
        assert "Building .venv with pip" in done.stdout
        assert (done.returncode == 0) == (digest == right), done.stderr
        assert (clone / ".venv/built-from").exists() == (digest == right)
    subprocess.run([clone / ".venv/bin/python", "-c", "import tiny"], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("works", [True, False])
def test_without_uv_pip_installs_uv_which_installs_the_rest_or_else_pip_does(
    clone: Path, programs: Path, works: bool
) -> None:
    add_python(programs)
    script = '#!/bin/sh\necho "uv is asked: $*"\n' + ("exit 0" if works else "exit 1")
    wheels = [
        write_tiny_wheel(clone.parent, "tiny", {"tiny.py": ""}),
        write_tiny_wheel(clone.parent, "uv", {"uv-1.0.data/scripts/uv": script}),
    ]
    lock = "".join(
        f"{wheel.name.split('-')[0]}==1.0 \\\n"
        f"    --hash=sha256:{sha256(wheel.read_bytes()).hexdigest()}\n    # via test\n"
        for wheel in wheels
    )
    (clone / "requirements.lock").write_text(lock)
    done = set_up(clone, programs, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(clone.parent))
    assert done.returncode == 0, done.stderr
    assert "uv is asked: pip install" in done.stdout
    found = list(clone.glob(".venv/lib/python*/site-packages/tiny.py"))
    assert bool(found) != works


def write_tiny_wheel(folder: Path, name: str, files: dict[str, str]) -> Path:
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    files = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": (
            "Wheel-Version: 1.0\nGenerator: a test\n"
            "Root-Is-Purelib: true\nTag: py3-none-any\n"
        ),
    }
    record = f"{info}/RECORD"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = 0o100755 << 16
            archive.writestr(entry, text)
        archive.writestr(record, "".join(f"{path},,\n" for path in [*files, record]))
    return wheel
