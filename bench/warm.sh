#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# See bench/README.md; `bench/warm.sh --help` tells the options.
exec /usr/bin/python3 -u "$(dirname "$(realpath "$0")")/warm.py" "$@"
