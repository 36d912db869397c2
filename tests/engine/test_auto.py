# SPDX-License-Identifier: Apache-2.0
"""`idle_timeout` "auto" on a real engine: what it does while it knows nothing, that it learns, says
why, stays within its bounds and does not forget. How well it decides is the bench's business."""
import json
import time

import pytest

from harness.echo import get
from harness.waiting import wait_until


def due(gate, service="echo"):
    """Seconds until the idle instance is due, once its lease is back."""
    return wait_until(
        lambda: gate.admin.instances(service)[0]["reap_in_seconds"], 10, "its lease is back"
    )


def use(gate, times):
    """That many requests with a pause after each, longer than a front keeps a lease: idle times to
    learn from."""
    for _ in range(times):
        assert gate.get("/", timeout=20).status == 200
        time.sleep(1.5)


def why(gate, service="echo"):
    """What the API says of how it decides."""
    return gate.admin.service(service)["idle"]


def test_five_minutes_while_nothing_is_known(kipgate, echo):
    """The fallback, and the words for it."""
    gate = kipgate({"echo": echo(idle_timeout="auto")})
    assert gate.get("/").status == 200
    assert 290 < due(gate) <= 300
    checked = gate.cli("check")
    assert json.loads(checked.stdout)["services"]["echo"]["idle_timeout"] == "auto"


def test_bounds_hold_from_the_first_instance_on(kipgate, echo):
    """`idle_max` below the fallback: removed by then, and not before `idle_min`."""
    gate = kipgate({"echo": echo(idle_timeout="auto", idle_min="1s", idle_max="2s")})
    assert gate.get("/").status == 200
    ended = time.time()
    gone = gate.witness.wait("destroy", 10, "echo")["timeNano"] / 1e9
    assert 0.95 <= gone - ended <= 4.0, gone - ended


def test_it_learns_and_says_why(kipgate, echo):
    """Idle times are counted, and both the API and `ps` tell the decision and its reason."""
    gate = kipgate({"echo": echo(idle_timeout="auto", idle_min="100ms", idle_max="10m")})
    assert gate.get("/").status == 200
    before = why(gate)
    assert before["known"] == 0 and before["reason"], before
    use(gate, 4)
    after = why(gate)
    assert after["known"] == 3 and after["reason"], after
    shown = gate.cli("ps")
    assert shown.returncode == 0 and after["reason"] in shown.stdout, shown.stdout
    assert after["reason"] in gate.cli("ps", "--json").stdout


def test_what_was_learnt_survives_a_restart(kipgate, echo):
    """kill -9 after it learnt: the next run knows as much, and goes on from there."""
    gate = kipgate({"echo": echo(idle_timeout="auto", idle_min="100ms", idle_max="10m")})
    use(gate, 3)
    gate.admin.sleep("echo")
    known = why(gate)
    gate.stop()
    gate.start()
    assert why(gate)["known"] == known["known"] > 0, (known, why(gate))
    gate.kill9()
    gate.start()
    assert why(gate)["known"] == known["known"], (known, why(gate))
    assert gate.get("/", timeout=20).status == 200


@pytest.mark.parametrize(
    "keys, named",
    [
        ({"idle_min": "1m"}, "idle_min"),
        ({"idle_timeout": "auto", "idle_min": "2m", "idle_max": "1m"}, "idle_m"),
        ({"idle_timeout": "auto", "idle_goal": 2}, "idle_goal"),
    ],
)
def test_contradictory_bounds_are_configuration_errors(kipgate, echo, keys, named):
    """Told at the key, and nothing is started."""
    checked = kipgate({"echo": echo(**keys)}, start=False).cli("check")
    assert checked.returncode == 2, checked.stdout
    assert f".{named}" in checked.stderr, checked.stderr


def test_requests_in_a_row_keep_it_warm(kipgate, echo):
    """Whatever it learns from pauses of 100 ms with an `idle_min` of 300: no request finds it
    asleep."""
    gate = kipgate({"echo": echo(idle_timeout="auto", idle_min="300ms", idle_max="5s")})
    with gate.raw(30) as client:
        for round_ in range(60):
            response = client.send(get("/x")).response()
            assert response.status == 200
            assert round_ == 0 or response.one("Server-Timing") is None
            time.sleep(0.1)
