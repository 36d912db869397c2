# SPDX-License-Identifier: Apache-2.0
"""Addresses for tests."""
import socket


def free_port():
    """A TCP port of loopback that nobody listens on now. Chosen below the ephemeral range's use by
    binding to 0 and closing: another process could take it, which the start then reports."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def refused(address):
    """Whether nobody listens there (any more)."""
    try:
        socket.create_connection(address, 2).close()
    except ConnectionRefusedError:
        return True
    return False
