#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tests/soak.sh [MINUTES] [--seed N]: mixed load and random faults; see soak/README.md
exec "$(dirname "${BASH_SOURCE[0]}")/soak/run.sh" soak "$@"
