#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs one of the three: tests/soak/run.sh prober|reuse|soak WORDS... (README.md)
# The program is build/gcc/kipgate (KIPGATE_BIN); without DOCKER_HOST there is an engine of its own.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export KIPGATE_BIN=${KIPGATE_BIN:-$ROOT/build/gcc/kipgate}
export KIPGATE_ECHO_IMAGE=${KIPGATE_ECHO_IMAGE:-kipgate-echo:test} PYTHONDONTWRITEBYTECODE=1
ENGINE=

cleanup() {
    trap - EXIT INT TERM
    [ -z "$ENGINE" ] || "$ROOT/packaging/engine.sh" stop "$ENGINE" || true
}

# The echo worker is one static program: an image of it needs no base image.
own_engine() {
    trap cleanup EXIT
    trap 'exit 130' INT TERM
    ENGINE=$(mktemp -d /tmp/kge.XXXXXX)
    chmod 755 "$ENGINE"
    "$ROOT/packaging/engine.sh" start "$ENGINE" >/dev/null
    export DOCKER_HOST=unix://$ENGINE/docker.sock
    mkdir "$ENGINE/echo"
    make -s -C "$ROOT/examples/echo-worker" OUT="$ENGINE/echo/echo"
    cp "$ROOT/examples/echo-worker/Dockerfile" "$ENGINE/echo/"
    DOCKER_BUILDKIT=0 docker build -q --network host -t "$KIPGATE_ECHO_IMAGE" "$ENGINE/echo"
}

SCRIPT=$1
shift
[ -n "${DOCKER_HOST:-}" ] || [[ " $* " == *" -h"* || " $* " == *" --help "* ]] || own_engine
/usr/bin/python3 "$ROOT/tests/soak/$SCRIPT.py" "$@"
