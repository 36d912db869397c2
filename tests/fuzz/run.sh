#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds the fuzzers (clang, sanitizers, build/fuzz) and lets each look for so long, two at a time:
#   run.sh [SECONDS] [TARGET...]    SECONDS for each (30), of these or of all: run.sh 3600 chunks
#   run.sh --smoke                  30 s each, always of the same seed: what fails is the change, and
#                                   luck is for the long runs
#   run.sh --list                   their names
# What is new on the way is kept in build/fuzz/found/TARGET, a failing input in build/fuzz/failed.
# To see one again: build/fuzz/tests/fuzz/fuzz_TARGET FILE
set -euo pipefail

HERE=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
ROOT=$(dirname "$(dirname "$HERE")")
BUILD=${KIPGATE_FUZZ_BUILD:-$ROOT/build/fuzz}
AT_A_TIME=2
RSS_MB=1500
SEED=0 # 0: of its own choice

targets() {
    find "$HERE" -name 'fuzz_*.c' -printf '%f\n' | sed 's/^fuzz_//; s/\.c$//' | sort
}

build() {
    mkdir -p "$BUILD"
    if ! { cmake -S "$ROOT" -B "$BUILD" -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=Debug \
        -DKIPGATE_SANITIZE=ON -DKIPGATE_FUZZ=ON \
        -DCMAKE_C_FLAGS='-O1 -fsanitize=fuzzer-no-link' &&
        cmake --build "$BUILD" -j "$(nproc)" --target "${@/#/fuzz_}"; } >"$BUILD/build.log" 2>&1; then
        grep -E -A 5 'error:|undefined reference' "$BUILD/build.log" | head -n 60
        return 1
    fi
}

# One target for so long. Its last words are shown; all of them are in a log.
look() { # TARGET SECONDS
    local target=$1 seconds=$2
    local log=$BUILD/$target.log found=$BUILD/found/$target failed=$BUILD/failed/$target-
    local -a options=(-max_total_time="$seconds" -seed="$SEED" -timeout=10 "-rss_limit_mb=$RSS_MB" -detect_leaks=1
        -print_final_stats=1 -artifact_prefix="$failed")
    mkdir -p "$found" "$BUILD/failed"
    [ ! -f "$HERE/$target.dict" ] || options+=(-dict="$HERE/$target.dict")
    [ ! -f "$HERE/$target.options" ] || mapfile -t -O "${#options[@]}" options <"$HERE/$target.options"
    if ! ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1 \
        UBSAN_OPTIONS=print_stacktrace=1 TMPDIR=${TMPDIR:-/tmp} \
        "$BUILD/tests/fuzz/fuzz_$target" "${options[@]}" "$found" "$HERE/corpus/$target" \
        >"$log" 2>&1; then
        grep -vE '^#[0-9]+\s|^INFO|^NOTE|^stat|fuzzer::|libc' "$log" | tail -n 40
        echo "fuzz: FOUND by $target; again: $BUILD/tests/fuzz/fuzz_$target $(
            grep -oE 'Test unit written to .*' "$log" | tail -n 1 | sed 's/.* to //')"
        return 1
    fi
    echo "fuzz: $target: $(awk '/number_of_executed_units/ {print $2}' "$log") runs," \
        "$(grep -oE 'cov: [0-9]+ ft: [0-9]+' "$log" | tail -n 1)"
}

main() {
    local seconds=30 running=0 failed=0
    local -a wanted
    case ${1:-} in
    --list) targets && return ;;
    --smoke) SEED=1 && shift ;;
    [0-9]*) seconds=$1 && shift ;;
    esac
    wanted=("$@")
    [ $# -gt 0 ] || mapfile -t wanted < <(targets)
    build "${wanted[@]}"
    for target in "${wanted[@]}"; do
        if [ "$running" -ge $AT_A_TIME ]; then
            wait -n || failed=1
            running=$((running - 1))
        fi
        look "$target" "$seconds" &
        running=$((running + 1))
    done
    while [ "$running" -gt 0 ]; do
        wait -n || failed=1
        running=$((running - 1))
    done
    return $failed
}

main "$@"
