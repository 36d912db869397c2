#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# See bench/README.md; `bench/keepalive.sh --help` tells the options. Builds the program if KEEPALIVE_BIN is
# not set and none is in build/.
set -eu
root=$(dirname "$(dirname "$(realpath "$0")")")
bin=${KEEPALIVE_BIN:-}
for candidate in "$root"/build/gcc/keepalive "$root"/build/keepalive; do
    [ -n "$bin" ] || [ ! -x "$candidate" ] || bin=$candidate
done
if [ -z "$bin" ]; then
    cmake -S "$root" -B "$root/build" >/dev/null
    cmake --build "$root/build" --target keepalive >&2
    bin=$root/build/keepalive
fi
exec "$bin" "$@"
