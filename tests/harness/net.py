# SPDX-License-Identifier: Apache-2.0
"""Addresses for tests."""
import random
import socket

# Below the range that the kernel gives to clients, so that none of theirs is in the way.
PORTS = range(15000, 32000)

_claims = []


def _claimed(port):
    """Keeps the port from all other test processes of this machine while this one lives."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0kipgate-test-port-{port}")
    except OSError:
        claim.close()
        return False
    _claims.append(claim)
    return True


def _free(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port():
    """A TCP port of loopback that nobody listens on, and that is given to nobody else: tests run
    side by side, and listeners of one user may share a port without an error."""
    for port in random.sample(PORTS, len(PORTS)):
        if _free(port) and _claimed(port):
            return port
    raise OSError("no free port")


def refused(address):
    """Whether nobody listens there (any more). Who comes in the instant of a listener's close is
    reset; another of the same address may still listen."""
    try:
        socket.create_connection(address, 2).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass
    return False
