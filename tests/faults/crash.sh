#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Kills Kipgate before and after every system call of its paths (crash_points.py), outside of CI:
#   tests/faults/crash.sh [--full] [SCENARIO...]   every 8th point, or each; of all paths, or these
#   tests/faults/crash.sh --point CALL#N SCENARIO  one again
#   tests/faults/crash.sh --list                   what there is
# The program is build/gcc/kipgate (KIPGATE_BIN); without DOCKER_HOST it starts an engine of its own.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export KIPGATE_BIN=${KIPGATE_BIN:-$ROOT/build/gcc/kipgate}
export KIPGATE_ECHO_IMAGE=${KIPGATE_ECHO_IMAGE:-kipgate-echo:test} PYTHONDONTWRITEBYTECODE=1
ENGINE=

cleanup() {
    trap - EXIT INT TERM
    [ -z "$ENGINE" ] || "$ROOT/packaging/engine.sh" stop "$ENGINE" || true
}

own_engine() {
    trap cleanup EXIT
    trap 'exit 130' INT TERM
    ENGINE=$(mktemp -d /tmp/kge.XXXXXX)
    chmod 755 "$ENGINE"
    "$ROOT/packaging/engine.sh" start "$ENGINE" >/dev/null
    export DOCKER_HOST=unix://$ENGINE/docker.sock
    "$ROOT/packaging/engine.sh" base-image "$ENGINE"
    mkdir "$ENGINE/echo"
    make -s -C "$ROOT/examples/echo-worker" OUT="$ENGINE/echo/echo"
    cp "$ROOT/examples/echo-worker/Dockerfile" "$ENGINE/echo/"
    DOCKER_BUILDKIT=0 docker build -q --network host -t "$KIPGATE_ECHO_IMAGE" "$ENGINE/echo"
}

[ -n "${DOCKER_HOST:-}" ] || [[ " $* " == *" --list "* ]] || own_engine
/usr/bin/python3 "$ROOT/tests/faults/crash_points.py" "$@"
