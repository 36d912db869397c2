# SPDX-License-Identifier: Apache-2.0
"""What the black-box tests stand on: a raw HTTP client, a Kipgate process, an engine and a
witness."""
