#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Checks the model of the lease protocol with spin, every state of it:
#   run.sh             a few sizes, and that each of a list of mistakes is found (about 40 s)
#   run.sh --large     one more request for each front (minutes, some GB)
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
WORK=$(mktemp -d /tmp/kgm.XXXXXX)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"

command -v spin >/dev/null || {
    echo "run.sh: missing: spin (Debian package: spin)" >&2
    exit 1
}

# MODEL DEFINES...: prints "errors: N" of a full search
search() {
    local model=$1
    shift
    rm -f pan ./*.trail
    spin -a "$@" "$model" >spin.log || { cat spin.log >&2; return 1; }
    cc -O2 -w -DSAFETY -DCOLLAPSE -DMEMLIM=8000 -o pan pan.c
    ./pan -m200000 -n >pan.log
    if grep -qE 'max search depth too small|out of memory|memory limit' pan.log; then
        echo "not all states were searched" >&2
        return 1
    fi
    grep -oE 'errors: [0-9]+' pan.log
}

holds() { # DEFINES...
    local errors
    errors=$(search "$HERE/lease.pml" "$@")
    printf '%-60s %s, %s states\n' "$*" "$errors" "$(awk '/states, stored/ {print $1}' pan.log)"
    [ "$errors" = "errors: 0" ] || {
        cp ./*.trail lease.pml.trail 2>/dev/null || true
        spin -t -p "$@" "$HERE/lease.pml" -k "$WORK/lease.pml.trail" | tail -n 60
        return 1
    }
}

# NAME SED-EXPRESSION DEFINES...: the mistake must be found
finds() {
    local name=$1 change=$2
    shift 2
    sed -E "$change" "$HERE/lease.pml" >mutant.pml
    if cmp -s mutant.pml "$HERE/lease.pml"; then
        echo "mutant '$name': its pattern is not in the model" >&2
        return 1
    fi
    if [ "$(search "$WORK/mutant.pml" "$@")" = "errors: 0" ]; then
        echo "mutant '$name' was not found" >&2
        return 1
    fi
    printf '%-60s found\n' "mistake: $name"
}

main() {
    if [ "${1:-}" = --large ]; then
        holds -DREQUESTS=3 -DCONCURRENCY=2
        holds -DREQUESTS=3 -DCONCURRENCY=2 -DLINGER=0
        return
    fi
    holds -DCONCURRENCY=1
    holds -DCONCURRENCY=2
    holds -DCONCURRENCY=4 -DFRONT_DEATHS=2 -DCANCELS=0
    holds -DCONCURRENCY=1 -DLINGER=0
    finds "a recall is dropped" 's/down\[f\]!RECALL\(0, 0, instance\)/skip/' -DCONCURRENCY=1 -DLINGER=0
    finds "what is owed is not given back" 's/fr\[f\]\.owed = fr\[f\]\.busy/skip/' -DCONCURRENCY=1 -DLINGER=0
    finds "a return is forgotten" 's/out = out - n;/skip;/' -DCONCURRENCY=1
    finds "the reaper does not look again" 's/&& out == 0 && reaps/\&\& reaps/'
    finds "one slot too many" 's/out < CONCURRENCY ->/out <= CONCURRENCY ->/; s/ && out \+ n <= CONCURRENCY\)/)/' -DCONCURRENCY=1
    finds "a dead front keeps its slots" 's/out = out - lent\[f\];/skip;/'
    finds "what returns of an old instance counts" 's/id == instance && state == READY ->/state == READY ->/'
    finds "a waiting request is not told that control is gone" 's/control_dead && empty\(down\[f\]\) && fr/false \&\& fr/'
    finds "a failed start answers nobody" 's/down\[from\]!REFUSE\(ticket, 0, 0\)/skip/'
}

main "$@"
