# SPDX-License-Identifier: Apache-2.0
"""What the abuse tests share: a Kipgate before five servers of Debian's, which tell what they
saw."""
import os

import pytest

from abuse_five import SERVERS, Five, service
from harness.kipgate import Kipgate


@pytest.fixture(scope="module")
def five():
    """One front, so that every request meets the worker connection that the one before it left."""
    config = {"fronts": 1, "protocols": ["h2", "http/1.1", "h2c"], "sandboxes": "off"}
    made = Kipgate({server: service(server) for server in SERVERS}, config=config)
    log = made.directory / "access.log"
    log.touch()
    log.chmod(0o666)
    made.config["access_log"] = str(log)
    with made as gate:
        yield Five(gate).wake()


@pytest.fixture(scope="session")
def long_run():
    """Whether the whole of a corpus is to be tried."""
    return os.environ.get("KIPGATE_LONG") == "1"
