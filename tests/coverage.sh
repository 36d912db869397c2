#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What the tests run of the code, in a build that counts (clang, build/coverage):
#   coverage.sh          unit tests, simulator and what the fuzzers keep, half a minute behind the build:
#                        all branches of the parts that must have them, all cells of the instance table
#   coverage.sh --full   exhaust_proxy and the black-box tests, too (with what tests/run.sh hands to
#                        them): 95% of all lines. Easiest by KIPGATE_FULL_COVERAGE=1 tests/run.sh
#   coverage.sh --show FILES   what the last run left out, in FILES (a pattern: 'proxy/*')
# What is not covered stands in tests/coverage with its reasons; the report fails if that is not so.
set -euo pipefail

ROOT=$(dirname "$(dirname "$(realpath "${BASH_SOURCE[0]}")")")
BUILD=${KIPGATE_COVERAGE_BUILD:-$ROOT/build/coverage}
REPORT=$ROOT/tests/coverage/report.py
FULL=

build() {
    mkdir -p "$BUILD"
    if ! { cmake -S "$ROOT" -B "$BUILD" -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=None \
        -DCMAKE_C_FLAGS=-O1 -DKIPGATE_COVERAGE=ON -DKIPGATE_FUZZ=ON &&
        cmake --build "$BUILD" -j "$(nproc)" --target all fuzz; } >"$BUILD/build.log" 2>&1; then
        grep -E -A 5 'error|Error' "$BUILD/build.log" | head -n 60
        return 1
    fi
}

# Kipgate may run as anybody: its counters are there, for all to write to, before it is needed.
reset() {
    rm -rf "$BUILD/profile"
    mkdir "$BUILD/profile"
    : >"$BUILD/profile/cells"
    "$BUILD/kipgate" --version >/dev/null
    chmod 777 "$BUILD/profile"
    chmod 666 "$BUILD/profile"/*
}

# Runs each program with a file of its own. Programs that link the same files in another order would
# be taken for one, and one's counts be refused by the other's file. GROUP is what the report counts
# apart: processes that share a file lose counts to each other.
apart() { # GROUP COMMAND...
    LLVM_PROFILE_FILE=$BUILD/profile/%c$1-%p-%m.profraw "${@:2}"
}

run_tests() { # GROUP PATTERN: the tests so named
    apart "$1" ctest --test-dir "$BUILD" --output-on-failure --no-tests=error -j "$(nproc)" \
        -R "$2" >"$BUILD/$1.log" ||
        { grep -vE ' Passed |Start ' "$BUILD/$1.log" && return 1; }
}

# What the fuzzers keep, once: hostile fronts, broken engines, streams that are cut anywhere.
run_corpora() {
    local corpus
    for corpus in "$ROOT"/tests/fuzz/corpus/*; do
        apart single timeout 120 "$BUILD/tests/fuzz/fuzz_$(basename "$corpus")" -runs=0 "$corpus" \
            >"$BUILD/corpora.log" 2>&1 || { tail -n 30 "$BUILD/corpora.log" && return 1; }
    done
}

# A test that fails here only is no failure of coverage: counting takes time.
run_black_box() {
    KIPGATE_BIN=$BUILD/kipgate KIPGATE_BIN_SAN=$BUILD/kipgate timeout --foreground 5400 \
        /usr/bin/python3 -m pytest -q -p no:cacheprovider -n 2 --dist loadfile "$ROOT/tests" \
        >"$BUILD/black-box.log" ||
        tail -n 40 "$BUILD/black-box.log"
}

case ${1:-} in
--full) FULL=--full ;;
--show) exec "$REPORT" "$BUILD" --show "${2:-*}" ;;
esac
build
reset
run_tests single "^(base|proxy|reaper|orchestrator)_${FULL:+|^exhaust_proxy\$}"
run_tests sim '^sim$'
run_corpora
[ -z "$FULL" ] || run_black_box
exec "$REPORT" "$BUILD" $FULL
