#!/usr/bin/env bash
# Brings .venv in step with a lock list: envs/install.sh cpu|cuda [ARGUMENT...]. `make setup` calls
# it; the further arguments tell uv where to find PyTorch. The environment variable PYTHON names
# the interpreter for a new .venv (default: the first of python3.11 and python3 that will do).
set -euo pipefail
cd "$(dirname "$0")/.."

device=${1:?usage: envs/install.sh cpu|cuda [ARGUMENT...]}
lock=requirements/$device.txt
python=.venv/bin/python

fail() {
  echo "setup: $*" >&2
  exit 1
}

# A name on PATH may be a stub that does not run, so each candidate is tried.
recent() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; }

case $PWD in
  *[{}:]*) fail "the path of this folder holds {, } or :, which Snakemake or Python misreads; rename or move it: $PWD" ;;
esac
[ -f "$lock" ] || fail "DEVICE must be cpu or cuda, not '$device'"
[ "$(uname -sm)" = "Linux x86_64" ] || fail "the lock lists are for Linux on x86_64, this is $(uname -sm)"

if [ ! -x "$python" ]; then
  for candidate in ${PYTHON:-python3.11 python3}; do
    recent "$candidate" && break
    candidate=
  done
  [ -n "$candidate" ] || fail "Python 3.11, 3.12 or 3.13 is needed; name one with PYTHON=/path/to/python3.11"
  # A .venv without an interpreter is the rest of an interrupted setup.
  "$candidate" -m venv --clear .venv || fail "no .venv; on Debian and Ubuntu: apt-get install python3-venv"
fi
recent "$python" || fail "$($python --version) in .venv is none of 3.11 to 3.13; remove .venv and run again"

# The lock list also pins the installer, by its hashes too.
uv=$(grep -o '^uv==[^ ]*' "$lock")
if [ "$(.venv/bin/uv --version 2>/dev/null | cut -d' ' -f2)" != "${uv#uv==}" ]; then
  sed -n '/^uv==/,/^ *#/p' "$lock" |
    "$python" -m pip install --quiet --disable-pip-version-check --require-hashes -r /dev/stdin
fi

# Only uv knows the excluded packages, hence sync: it installs the list and nothing that it implies.
# Compiled here once: each job is a process that imports vLLM or TRL.
# A file whose hash is not in the lists is refused, PyTorch's CPU build and build tools included.
.venv/bin/uv pip sync --require-hashes --build-constraints requirements/build.txt \
  --compile-bytecode --python "$python" "${@:2}" "$lock"

if [ "$device" = cpu ]; then
  .venv/bin/uv pip freeze --python "$python" | grep -q '^torch==.*+cpu$' ||
    fail "PyTorch in .venv is not its CPU build; PIP_FIND_LINKS must be unset or hold that build"
  # vLLM's CPU kernels are bound to this library.
  has_numa() { "$python" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null; }
  if ! has_numa; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
      apt-get install -y --no-install-recommends libnuma1 ||
        { apt-get update && apt-get install -y --no-install-recommends libnuma1; }
    fi
    has_numa || fail "vLLM needs libnuma.so.1: apt-get install libnuma1, or dnf install numactl-libs"
  fi
fi
