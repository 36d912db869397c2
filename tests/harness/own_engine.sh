#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# For scripts that run outside of CI, to be sourced: names of what they try (KIPGATE_BIN: build/gcc's),
# and own_engine, an engine with the echo worker's image that ends with the script.
ROOT=$(dirname "$(dirname "$(dirname "$(realpath "${BASH_SOURCE[0]}")")")")
export KIPGATE_BIN=${KIPGATE_BIN:-$ROOT/build/gcc/kipgate}
export KIPGATE_ECHO_IMAGE=${KIPGATE_ECHO_IMAGE:-kipgate-echo:test} PYTHONDONTWRITEBYTECODE=1
ENGINE=

end_engine() {
    trap - EXIT
    trap '' HUP INT TERM
    [ -z "$ENGINE" ] || "$ROOT/packaging/engine.sh" stop "$ENGINE" || true
}

# The echo worker is one static program: an image of it needs no base image.
own_engine() {
    trap end_engine EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    ENGINE=$(mktemp -d /tmp/kge.XXXXXX)
    chmod 755 "$ENGINE"
    "$ROOT/packaging/engine.sh" start "$ENGINE" >/dev/null
    unset DOCKER_TLS_VERIFY DOCKER_CERT_PATH DOCKER_CONTEXT # of another engine
    export DOCKER_HOST=unix://$ENGINE/docker.sock
    mkdir "$ENGINE/echo"
    make -s -C "$ROOT/examples/echo-worker" OUT="$ENGINE/echo/echo"
    cp "$ROOT/examples/echo-worker/Dockerfile" "$ENGINE/echo/"
    DOCKER_BUILDKIT=0 docker build -q --network host -t "$KIPGATE_ECHO_IMAGE" "$ENGINE/echo"
}
