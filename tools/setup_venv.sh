#!/bin/sh
# Build .venv from requirements.lock, unless it is already what the lock says. With the
# argument `remove`: remove it.
#
# Installs with uv, which is several times faster than pip. Where there is none, pip
# installs the uv of the lock first. If that one fails, pip installs everything: it may be
# the only one that is told of a mirror. Both check every hash.
# The stamp is written last, so an interrupted build is done again from scratch.
set -eu

cd "$(dirname "$0")/.."
lock=requirements.lock
stamp=.venv/built-from

# The folder is part of the stamp because a venv that was moved or copied still
# points to where it was built.
wanted() {
    pwd -P
    cat "$lock"
}

# Print the base interpreter behind $1 if that is an ordinary CPython 3.13. The base:
# the candidate may live in the very .venv that is about to be replaced.
python_313() {
    found=$("$1" -c '
import sys
if sys.version_info[:2] != (3, 13) or sys.abiflags:
    sys.exit(1)
print(getattr(sys, "_base_executable", sys.executable))
' 2>/dev/null) && echo "$found"
}

# A pyenv shim named python3.13 exists but fails unless that version is selected, so
# each candidate is tried, not only looked up.
find_python() {
    python_313 python3.13 && return
    for candidate in "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.13*/bin/python3.13; do
        python_313 "$candidate" && return
    done
    candidate=$(uv python find 3.13 2>/dev/null) && python_313 "$candidate" && return
    python_313 python3
}

if [ "${1:-}" != remove ] && [ -x .venv/bin/python ] && wanted | cmp -s - "$stamp"; then
    exit 0
fi

if ! python=$(find_python); then
    [ "${1:-}" != remove ] || exec rm -rf .venv
    echo "Warpzone needs Python 3.13 and found none: install it with" \
        "'uv python install 3.13', 'pyenv install 3.13' or from" \
        "https://www.python.org/downloads/" >&2
    exit 1
fi

# What `make repro` and its like hold while they run. Once more, then, with it held.
if [ -z "${VENV_LOCKED:-}" ]; then
    VENV_LOCKED=1 exec "$python" -c '
import fcntl, os, sys
os.makedirs(".dvc/tmp", exist_ok=True)
lock = open(".dvc/tmp/repro.lock", "a+")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    lock.seek(0)
    pid = lock.read().strip()
    sys.exit(f"error: process {pid} uses .venv, which is to be replaced: wait for it or end it")
lock.truncate(0)
lock.write(f"{os.getpid()}\n")
lock.flush()
os.set_inheritable(lock.fileno(), True)
os.execvp("sh", ["sh", "tools/setup_venv.sh", *sys.argv[1:]])' "$@"
fi
if [ "${1:-}" = remove ]; then
    exec rm -rf .venv
fi

# --no-deps: the lock lists every package. A resolver would refuse it, because of
# what pyproject.toml overrides. --compile-bytecode, as pip does: where Python may write
# none (PYTHONDONTWRITEBYTECODE, a read-only .venv), each start would take seconds more.
uv_install() {
    "$1" pip install --python .venv/bin/python --no-deps --require-hashes \
        --compile-bytecode -r "$lock"
}
pip_install() {
    .venv/bin/python -m pip install --disable-pip-version-check --no-deps \
        --require-hashes "$@"
}
rm -rf .venv
if command -v uv >/dev/null 2>&1; then
    echo "Building .venv with uv and $python (several GB, some minutes once)"
    uv venv --quiet --no-project --python "$python" .venv
    uv_install uv
else
    echo "Building .venv with pip and $python (several GB, some minutes once)"
    "$python" -m venv .venv
    sed -n '/^uv==/,/^ *#/p' "$lock" >.venv/uv.lock
    pip_install --quiet -r .venv/uv.lock
    uv_install .venv/bin/uv || pip_install -r "$lock"
fi

# `python stages/NAME.py` puts stages/ on the path, not the folder it is run in.
# An editable install would tie every run to this folder, but DVC runs queued
# experiments in copies of the repository, and those must import their own warpzone.
# Importing it pins the instruction set, which must come before numpy and torch.
site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cat >"$site/warpzone_here.pth" <<'EOF'
import os, sys; os.path.isfile("warpzone/__init__.py") and (sys.path.append(os.getcwd()), __import__("warpzone"))
EOF

wanted >"$stamp.new"
mv "$stamp.new" "$stamp"
