#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Plays the simulator on seeds that nobody played before, for so long:
#   nightly.sh [MINUTES]          480 by default
#   nightly.sh --seeds COUNT
# Each seed that fails is shrunk and kept in tests/sim/seeds, to be played first from then on.
set -euo pipefail

HERE=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
SIM=${KIPGATE_SIM:-$HERE/../../build/gcc/tests/sim/sim}
PIECE=20000
KEPT=$HERE/seeds
minutes=480 most=
case ${1:-} in
--seeds) most=$2 ;;
'') ;;
*) minutes=$1 ;;
esac
first=$(($(date +%s) * 1000000)) # no two nights play the same
next=$first
failed=0
output=$(mktemp)
trap 'rm -f "$output"' EXIT

keep() { # SEED WHAT
    local least
    least=$("$SIM" --shrink "$1" 2>/dev/null | sed -n 's/^kept: //p')
    echo "${least:-$1 60000 -} $2" >>"$KEPT"
    echo "seed $1 fails: $2"
    failed=$((failed + 1))
}

while [ "$failed" -lt 20 ]; do
    if [ -n "$most" ]; then
        [ $((next - first)) -lt "$most" ] || break
        [ $((first + most - next)) -ge "$PIECE" ] || PIECE=$((first + most - next))
    else
        [ "$SECONDS" -lt $((minutes * 60)) ] || break
    fi
    if "$SIM" --seeds "$next" "$PIECE" --jobs "$(nproc)" >"$output" 2>&1; then
        next=$((next + PIECE))
        continue
    fi
    seed=$(sed -n 's/.*replay: sim --seeds \([0-9]*\) .*/\1/p' "$output" | sort -n | head -n 1)
    [ -n "$seed" ] || { cat "$output" && exit 2; }
    keep "$seed" "$(grep -m 1 -E '^sim: |assertion' "$output" | cut -c1-80)"
    next=$((seed + 1))
done
echo "$((next - first)) seeds in $SECONDS s, $failed failed: $first to $((next - 1))"
[ "$failed" -eq 0 ]
