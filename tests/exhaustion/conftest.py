# SPDX-License-Identifier: Apache-2.0
"""Where the modules of this folder are found."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
