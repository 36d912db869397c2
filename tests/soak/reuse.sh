#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tests/soak/reuse.sh: see README.md beside it, or --help
exec "$(dirname "${BASH_SOURCE[0]}")/run.sh" reuse "$@"
