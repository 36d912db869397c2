#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Checks the models of the lease protocol with spin, every state of them: one control (lease.pml),
# and several that follow one another (attach.pml):
#   run.sh             a few sizes, and that each of a list of mistakes is found (about a minute)
#   run.sh --large     one more request for each front (minutes, some GB)
set -euo pipefail

HERE=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
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
    rm -f pan pan.log ./*.trail
    spin -a "$@" "$model" >spin.log || { cat spin.log >&2; return 1; }
    cc "$FAST" -w -DSAFETY -DCOLLAPSE -DMEMLIM=8000 -o pan pan.c || return 1
    ./pan -m200000 -n >pan.log
    if grep -qE 'max search depth too small|out of memory|memory limit' pan.log; then
        echo "not all states were searched" >&2
        return 1
    fi
    grep -oE 'errors: [0-9]+' pan.log
}

holds() { # MODEL DEFINES...
    local errors model=$1
    shift
    FAST=-O2
    errors=$(search "$HERE/$model" "$@")
    printf '%-60s %s, %s states\n' "$model $*" "$errors" \
        "$(awk '/states, stored/ {print $1}' pan.log)"
    [ "$errors" = "errors: 0" ] || {
        cp ./*.trail model.trail 2>/dev/null || true
        spin -t -p "$@" "$HERE/$model" -k "$WORK/model.trail" | tail -n 60
        return 1
    }
}

# MODEL NAME SED-EXPRESSION DEFINES...: the mistake must be found
finds() {
    local model=$1 name=$2 change=$3
    shift 3
    FAST=-O0 # it ends soon
    sed -E "$change" "$HERE/$model" >mutant.pml
    if cmp -s mutant.pml "$HERE/$model"; then
        echo "mutant '$name': its pattern is not in the model" >&2
        return 1
    fi
    search "$WORK/mutant.pml" "$@" >result || return 1
    if grep -qx 'errors: 0' result; then
        echo "mutant '$name' was not found" >&2
        return 1
    fi
    printf '%-60s found\n' "mistake: $name"
}

main() {
    if [ "${1:-}" = --large ]; then
        holds lease.pml -DREQUESTS=3 -DCONCURRENCY=2
        holds lease.pml -DREQUESTS=3 -DCONCURRENCY=2 -DLINGER=0
        holds attach.pml -DREQUESTS=2 -DCONCURRENCY=2 -DUNFIT=0
        return
    fi
    holds lease.pml -DCONCURRENCY=1
    holds lease.pml -DCONCURRENCY=2
    holds lease.pml -DCONCURRENCY=4 -DFRONT_DEATHS=2 -DCANCELS=0
    holds lease.pml -DCONCURRENCY=1 -DLINGER=0
    finds lease.pml "a recall is dropped" 's/down\[f\]!RECALL\(0, 0, instance\)/skip/' -DCONCURRENCY=1 -DLINGER=0
    finds lease.pml "what is owed is not given back" 's/fr\[f\]\.owed = fr\[f\]\.busy/skip/' -DCONCURRENCY=1 -DLINGER=0
    finds lease.pml "a return is forgotten" 's/out = out - n;/skip;/' -DCONCURRENCY=1
    finds lease.pml "the reaper does not look again" 's/&& out == 0 && reaps/\&\& reaps/'
    finds lease.pml "one slot too many" 's/out < CONCURRENCY ->/out <= CONCURRENCY ->/; s/ && out \+ n <= CONCURRENCY\)/)/' -DCONCURRENCY=1
    finds lease.pml "a dead front keeps its slots" 's/out = out - lent\[f\];/skip;/'
    finds lease.pml "what returns of an old instance counts" 's/id == instance && state == READY ->/state == READY ->/'
    finds lease.pml "a waiting request is not told that control is gone" 's/control_dead && empty\(down\[f\]\) && fr/false \&\& fr/'
    finds lease.pml "a failed start answers nobody" 's/down\[from\]!REFUSE\(ticket, 0, 0\)/skip/'
    holds attach.pml -DCONTROL_DEATHS=2
    holds attach.pml -DCONTROL_DEATHS=2 -DCONCURRENCY=2
    holds attach.pml -DREQUESTS=2 -DCONCURRENCY=2 -DINSTANCE_DEATHS=0 -DFRONT_DEATHS=0
    finds attach.pml "claims are not waited for" 's/stray && !pending\[0\] && !pending\[1\]/stray/'
    finds attach.pml "what is held is not claimed" 's/(slots > 0) -> up\[f\]!CLAIM\(.*/\1/'
    finds attach.pml "who waits is not asked for anew" 's/(& BIT\(t\)) -> up\[f\]!ACQUIRE\(t, 0, 0\)/\1/'
    finds attach.pml "what ends is not written down" 's/written = instance;/skip;/'
    finds attach.pml "given back before it is taken over" 's/ && !fr\[f\]\.away && !CLAIMED\(f\) ->/ ->/'
    finds attach.pml "what is taken over is not counted" 's/out = out \+ claim\[i\];/skip;/'
    finds attach.pml "what is dead is taken over" 's/(alive != instance) -> refuse_claims\(false\)/\1 -> bind_claims(); state = READY/'
    finds attach.pml "a claim of what nobody knows is not answered" 's/:: else -> down\[f\]!GONE\(id, 0, 0\)/:: else/'
    finds attach.pml "one is made before it is known what there is" 's/ABSENT && listed && !stray && /ABSENT \&\& /'
    finds attach.pml "what was owed to the dead is given back" 's/fr\[f\]\.owed = 0 \} .*/skip }/'
}

main "$@"
