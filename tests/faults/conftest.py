# SPDX-License-Identifier: Apache-2.0
"""What the fault scenarios share: one engine of their own to be harmed, the way to it, a prober of
a service that nothing may happen to, and the times that recoveries took, told at the end."""
import contextlib

import pytest

from harness import settings
from harness.between import Between
from harness.engine import own_engine
from harness.faults import TIMES
from harness.kipgate import Kipgate


@pytest.fixture(scope="session")
def engine(echo_image):
    """The engine that is harmed."""
    with own_engine(settings.docker_host(), echo_image) as made:
        yield made


@pytest.fixture(autouse=True)
def engine_runs(request):
    """Whatever a test did or failed to do: the next one finds an engine that runs."""
    yield
    if "engine" not in request.fixturenames:
        return
    engine = request.getfixturevalue("engine")
    if engine.containerd and engine.containerd.poll() is not None:
        engine.start_containerd()
    if not engine.answers():
        engine.start_dockerd()


@pytest.fixture
def between(engine, engine_runs):
    """The way to it, to be cut, slowed and garbled."""
    made = Between(engine.host)
    yield made
    made.stop()


@pytest.fixture
def make_gate(engine, engine_runs, echo):
    """Makes Kipgates with a warm service at "/" and others: make_gate(host, cold=echo(...))."""
    with contextlib.ExitStack() as stack:

        def make(host, config=None, start=True, warm=True, **services):
            routed = {name: {"routes": [f"/{name}"], **s} for name, s in services.items()}
            if warm:
                routed["warm"] = echo(routes=["/"], idle_timeout="10m")
            gate = Kipgate(routed, engine=host, witness=engine.host, config=config)
            if not start:
                return stack.enter_context(contextlib.nullcontext(gate))
            stack.enter_context(gate)
            if warm:
                assert gate.admin.wake("warm").status == 200
            return gate

        yield make


def pytest_terminal_summary(terminalreporter):
    """The recoveries of this run."""
    if TIMES:
        terminalreporter.section("recoveries")
        for what, seconds in TIMES:
            terminalreporter.write_line(f"{seconds * 1000:8.0f} ms  {what}")
