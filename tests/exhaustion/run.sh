#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Want of memory, of system calls' success and of descriptors (README.md), outside of CI:
#   tests/exhaustion/run.sh [--full] [PYTEST-WORDS...]   a sample, or each point of each path
# The programs are those of build/gcc (KIPGATE_BIN) and build/san; the echo worker is build/echo.
set -euo pipefail

ROOT=$(dirname "$(dirname "$(dirname "$(realpath "${BASH_SOURCE[0]}")")")")
export KIPGATE_BIN=${KIPGATE_BIN:-$ROOT/build/gcc/kipgate}
export KIPGATE_ECHO=${KIPGATE_ECHO:-$ROOT/build/echo} PYTHONDONTWRITEBYTECODE=1 CK_FORK=no
export DOCKER_HOST=${DOCKER_HOST:-unix:///var/run/docker.sock}

if [ "${1:-}" = --full ]; then
    export KIPGATE_LONG=1
    shift
fi
for build in gcc san; do
    for program in "$ROOT/build/$build/tests/exhaustion"/exhaust_*; do
        [ ! -x "$program" ] || ASAN_OPTIONS=detect_leaks=1 "$program"
    done
done
/usr/bin/python3 -m pytest -q -p no:cacheprovider "$ROOT/tests/exhaustion" "$@"
