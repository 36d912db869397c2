#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Kills Kipgate before and after every system call of its paths (crash_points.py), outside of CI:
#   tests/faults/crash.sh [--full] [SCENARIO...]   every 8th point, or each; of all paths, or these
#   tests/faults/crash.sh --point CALL#N SCENARIO  one again
#   tests/faults/crash.sh --list                   what there is
# The program is build/gcc/kipgate (KIPGATE_BIN); without DOCKER_HOST it starts an engine of its own.
set -euo pipefail

# shellcheck disable=SC1091
. "$(dirname "${BASH_SOURCE[0]}")/../harness/own_engine.sh"

[ -n "${DOCKER_HOST:-}" ] || [[ " $* " == *" --list "* ]] || own_engine
/usr/bin/python3 "$ROOT/tests/faults/crash_points.py" "$@"
