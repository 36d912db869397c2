# SPDX-License-Identifier: Apache-2.0
"""Fixtures that all black-box tests share."""
import pathlib
import resource
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from harness import settings  # noqa: E402  (needs the path above)
from harness.kipgate import Kipgate  # noqa: E402


def pytest_configure(config):
    """A thousand clients at once need descriptors. What Debian's python3-docker says of itself with
    each client that is made is none of our news."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20000), hard))
    config.addinivalue_line(
        "filterwarnings", "ignore:distutils Version classes are deprecated:DeprecationWarning"
    )


@pytest.fixture(scope="session")
def echo_image():
    """The echo worker's image."""
    return settings.echo_image()


@pytest.fixture(scope="session")
def echo(echo_image):
    """Makes the configuration of an echo service: echo(env=..., idle_timeout=...)."""

    def make(env=None, **more):
        service = {"image": echo_image, "port": 8080, "pull": "never", **more}
        if env:
            service["env"] = [f"{key}={value}" for key, value in env.items()]
        return service

    return make


@pytest.fixture
def kipgate():
    """Makes Kipgates that end with the test: kipgate({"name": service}, ...)."""
    made = []

    def make(services=None, start=True, **kwargs):
        gate = Kipgate(services, **kwargs)
        made.append(gate)
        return gate.start() if start else gate

    make.made = made
    yield make
    errors = []
    for gate in made:
        try:
            if gate.process and gate.process.poll() is None:
                gate.stop()
        except AssertionError as error:
            errors.append(str(error))
            gate.end()
        finally:
            gate.discard()
    assert not errors, "\n".join(errors)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Adds the last log lines of the Kipgates in use to a failure."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            for gate in getattr(value, "made", [value]):
                if isinstance(gate, Kipgate):
                    report.sections.append((f"log of {name}", gate.tail(60)))
