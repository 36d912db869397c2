#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tests/soak/prober.sh: see README.md beside it, or --help
exec "$(dirname "${BASH_SOURCE[0]}")/run.sh" prober "$@"
