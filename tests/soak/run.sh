#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs one of the three: tests/soak/run.sh prober|reuse|soak WORDS... (README.md)
# The program is build/gcc/kipgate (KIPGATE_BIN); without DOCKER_HOST there is an engine of its own.
set -euo pipefail

# shellcheck disable=SC1091
. "$(dirname "${BASH_SOURCE[0]}")/../harness/own_engine.sh"

SCRIPT=$1
shift
[ -n "${DOCKER_HOST:-}" ] || [[ " $* " == *" -h"* || " $* " == *" --help "* ]] || own_engine
/usr/bin/python3 "$ROOT/tests/soak/$SCRIPT.py" "$@"
