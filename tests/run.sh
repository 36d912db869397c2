#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# All tests of Kipgate, on a Debian 12 machine, as root:
#   tests/run.sh             everything: both builds, style, unit tests, images, HTTP and engine tests
#   tests/run.sh --quick     without an engine: builds, style and unit tests only
#   tests/run.sh -k EXPR     and the like: further words go to pytest
# What is missing is installed; the engine is a private one that ends with this script.
set -euo pipefail

ROOT=$(dirname "$(dirname "$(realpath "${BASH_SOURCE[0]}")")")
BUILD=$ROOT/build
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # `su` alone leaves a root without them
QUICK=
FAILED=()
ENGINE=
LOGS=
cd "$ROOT"

die() {
    echo "tests/run.sh: $*" >&2
    exit 1
}

step() {
    printf '\n== %s (%d s)\n' "$*" "$SECONDS"
}

# A second signal does not end it halfway.
cleanup() {
    trap - EXIT
    trap '' HUP INT TERM
    [ -z "$ENGINE" ] || "$ROOT/packaging/engine.sh" stop "$ENGINE" || true
    [ -z "$LOGS" ] || rm -rf "$LOGS"
}

# A check that fails is told at once and at the end; the others still run.
check() { # NAME COMMAND...
    local name=$1
    shift
    step "$name"
    "$@" || {
        FAILED+=("$name")
        echo "FAILED: $name"
    }
}

# --- builds and style ------------------------------------------------------------------------------

build() { # NAME CMAKE-OPTIONS...
    local name=$1
    shift
    if ! { cmake -S "$ROOT" -B "$BUILD/$name" "$@" &&
        cmake --build "$BUILD/$name" -j "$(nproc)"; } >"$LOGS/build-$name.log" 2>&1; then
        grep -E -A 5 'error|Error' "$LOGS/build-$name.log" | head -n 60
        return 1
    fi
}

build_echo() {
    mkdir -p "$BUILD"
    make -s -C examples/echo-worker OUT="$BUILD/echo"
}

sources() { # FIND-EXPRESSION...: our own files
    find . \( -path './build*' -o -path ./.git -o -name __pycache__ \) -prune -o -type f "$@" -print0
}

style_c() {
    sources -name '*.[ch]' | xargs -0 clang-format --dry-run -Werror
}

style_shell() {
    sources -exec grep -qE -m 1 '^#!/bin/(ba)?sh' {} \; | xargs -0 shellcheck
}

unit() { # NAME: ctest in that build
    ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1 \
        ctest --test-dir "$BUILD/$1" --output-on-failure --no-tests=error -j "$(nproc)"
}

# --- images and black-box tests --------------------------------------------------------------------

start_engine() {
    ENGINE=$(mktemp -d /tmp/kge.XXXXXX)
    chmod 755 "$ENGINE"
    packaging/engine.sh start "$ENGINE" >/dev/null || return 1
    unset DOCKER_TLS_VERIFY DOCKER_CERT_PATH DOCKER_CONTEXT # of another engine
    export DOCKER_HOST=unix://$ENGINE/docker.sock KIPGATE_ENGINE_DIR=$ENGINE
    packaging/engine.sh base-image "$ENGINE"
}

build_image() { # TAG DIRECTORY
    if ! DOCKER_BUILDKIT=0 docker build --network host -t "$1" "$2" >"$LOGS/image.log" 2>&1; then
        tail -n 20 "$LOGS/image.log"
        return 1
    fi
}

build_echo_image() {
    rm -rf "$LOGS/echo"
    mkdir "$LOGS/echo"
    cp "$BUILD/echo" examples/echo-worker/Dockerfile "$LOGS/echo/"
    build_image "$KIPGATE_ECHO_IMAGE" "$LOGS/echo"
}

# Two at a time: most of what they do is wait for the engine. In the foreground, for Ctrl-C to reach
# them: they have engines of their own to end.
black_box() {
    timeout --foreground 4000 /usr/bin/python3 -m pytest -q -p no:cacheprovider -n 2 --dist loadfile tests "$@"
}

export_names() {
    export KIPGATE_BIN=$BUILD/gcc/kipgate KIPGATE_BIN_SAN=$BUILD/san/kipgate
    export KIPGATE_ECHO=$BUILD/echo KIPGATE_ECHO_IMAGE=kipgate-echo:test
    export KIPGATE_IMAGE_WORKER=kipgate-image-worker:test KIPGATE_IMAGE=kipgate:test
    export KIPGATE_GRPC_WORKER=kipgate-grpc-worker:test
    export KIPGATE_ABUSE_WORKER=kipgate-abuse-worker:test
    export PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8
}

engine_part() {
    step "a private engine"
    start_engine || die "no engine could be started"
    check "image of the echo worker" build_echo_image
    check "image of the image worker" build_image "$KIPGATE_IMAGE_WORKER" examples/image-worker
    check "image of the gRPC worker" build_image "$KIPGATE_GRPC_WORKER" examples/grpc-worker
    check "image of the abuse tests' servers" build_image "$KIPGATE_ABUSE_WORKER" tests/abuse/workers
    check "image of Kipgate" build_image "$KIPGATE_IMAGE" .
    check "HTTP and engine tests" black_box "$@"
    [ -z "${KIPGATE_FULL_COVERAGE:-}" ] || check "coverage by all tests" tests/coverage.sh --full
}

# --- the whole -------------------------------------------------------------------------------------

install_missing() {
    local -a groups=(build test)
    [ -n "$QUICK" ] || groups+=(engine bench)
    step "what is missing"
    packaging/install.sh "${groups[@]}" || exit 1
}

static_part() {
    check "style: clang-format" style_c
    check "style: shellcheck" style_shell
    check "tidy, unit tests and simulator, gcc" unit gcc
    check "the same, clang with sanitizers" unit san
    check "the specification and its tests" /usr/bin/python3 -m pytest -q -p no:cacheprovider tests/test_specification.py
    check "coverage by unit tests and simulator" tests/coverage.sh
    check "model of the lease protocol, every state" tests/model/run.sh
    check "fuzzers, thirty seconds each" tests/fuzz/run.sh --smoke
}

main() {
    if [ "${1:-}" = --quick ]; then
        QUICK=yes
        shift
    fi
    trap cleanup EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    LOGS=$(mktemp -d /tmp/kgl.XXXXXX)
    install_missing
    step "build with gcc"
    build gcc -DCMAKE_C_COMPILER=gcc -DCMAKE_BUILD_TYPE=RelWithDebInfo || die "the build with gcc failed"
    step "build with clang and sanitizers"
    build san -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=Debug -DKIPGATE_SANITIZE=ON ||
        die "the build with clang failed"
    build_echo || die "the echo worker's build failed"
    export_names
    static_part
    [ -n "$QUICK" ] || engine_part "$@"
    cleanup
    if [ ${#FAILED[@]} -gt 0 ]; then
        printf 'failed: %s\n' "${FAILED[@]}"
        exit 1
    fi
}

main "$@"
