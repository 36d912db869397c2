#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# keepalive over a trace so small that it can be counted by hand, and over broken ones.
#     bench/keepalive_test.sh PROGRAM
set -eu
program=$1
sample=$(dirname "$(realpath "$0")")/keepalive-sample
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "keepalive_test: $*" >&2
    exit 1
}

# The first row of a policy, which is the minute grid's: cold starts and waste.
row() {
    awk -v name="$1" '$1 == name { print $2, $3; exit }' "$work/out"
}

# Takes the words that the error must have.
refused() {
    if "$program" "$work/bad" --seeds 0 >"$work/out" 2>"$work/err"; then
        fail "took what should be refused with: $1"
    fi
    grep -qF "$1" "$work/err" || fail "expected \"$1\", got: $(cat "$work/err")"
}

broken() {
    rm -rf "$work/bad"
    cp -r "$sample" "$work/bad"
}

"$program" "$sample" --seeds 1 --out "$work/plot.svg" >"$work/out"
[ "$(row fixed-10)" = "5 100.0" ] || fail "fixed-10: $(row fixed-10)"
[ "$(row fixed-5)" = "6 56.8" ] || fail "fixed-5: $(row fixed-5)"
[ "$(row fixed-20)" = "3 140.9" ] || fail "fixed-20: $(row fixed-20)"
grep -q '</svg>' "$work/plot.svg" || fail "no plot"

rm -rf "$work/bad"
refused "$work/bad/invocations.csv: No such file or directory"
broken && echo 'o1,timer,f9,timer,1,2' >>"$work/bad/invocations.csv"
refused "invocations.csv:6: 6 columns where the heading has 44"
broken && sed -i '3s/,1,1,/,1,x,/' "$work/bad/invocations.csv"
refused 'invocations.csv:3: column'
broken && sed -i '2p' "$work/bad/invocations.csv"
refused "invocations.csv:3: the function is there already"
broken && echo 'not a heading' >"$work/bad/durations.csv"
refused "durations.csv:1: not the expected heading"
broken && sed -i '4s/20,1,5/20/' "$work/bad/durations.csv"
refused "durations.csv:4: too few columns"
broken && sed -i '4d' "$work/bad/durations.csv"
refused "durations.csv: nothing of function f3"
broken && sed -i '2s/,64,/,-1,/' "$work/bad/memory.csv"
refused "memory.csv:2: column 5"
broken && : >"$work/bad/memory.csv"
refused "memory.csv:1: not the expected heading"
broken && sed -i '2,$d' "$work/bad/invocations.csv"
refused "invocations.csv:2: no invocations"
