# SPDX-License-Identifier: Apache-2.0
"""Services that need others: in which order they start, how long what is needed is kept, and what
a request is told when a need cannot be met."""
import time

import pytest

from harness import echo as worker
from harness.echo import get
from harness.kipgate import problem
from harness.waiting import Background, together, wait_until


def at(gate, action, service):
    """The moment of a container event by the engine's clock, in seconds."""
    return gate.witness.wait(action, 10, service)["timeNano"] / 1e9


def open_stream(gate, target):
    """An exchange that lasts until its connection is closed."""
    client = gate.raw(30)
    client.send(get(target + worker.sse(100000, 100)))
    head = client.final_head(30)
    assert head.status == 200, head
    return client


def test_needs_are_ready_before_the_service_starts(kipgate, echo):
    """The database needs 700 ms until it listens; the application is started only then, by one
    request, and the database needs no route."""
    database = echo(env=worker.start_delay(700))
    gate = kipgate({"app": echo(routes=["/"], needs=["db"]), "db": database})
    response = gate.get("/", timeout=30)
    assert response.status == 200 and worker.waited_ms(response) > 700
    assert at(gate, "start", "app") - at(gate, "start", "db") >= 0.65
    assert gate.witness.made("app") == 1 and gate.witness.made("db") == 1


def test_chain_of_needs(kipgate, echo):
    """web needs app needs db: started in the opposite order, each after the one below is ready."""
    slow = worker.start_delay(300)
    gate = kipgate(
        {
            "web": echo(routes=["/"], needs=["app"]),
            "app": echo(env=slow, needs=["db"]),
            "db": echo(env=slow),
        }
    )
    assert gate.get("/", timeout=30).status == 200
    starts = [at(gate, "start", name) for name in ("db", "app", "web")]
    assert starts[1] - starts[0] >= 0.25 and starts[2] - starts[1] >= 0.25, starts


def test_shared_need_is_made_once(kipgate, echo):
    """Four services that need one, all asked for at once."""
    names = [f"s{i}" for i in range(4)]
    services = {n: echo(routes=[f"/{n}"], needs=["db", "cache"]) for n in names}
    gate = kipgate({**services, "db": echo(env=worker.start_delay(300)), "cache": echo()})
    answers = together([lambda n=n: gate.get(f"/{n}", timeout=40) for n in names], 60)
    assert [a.status for a in answers] == [200] * 4
    assert gate.witness.made("db") == 1 and gate.witness.made("cache") == 1


def test_need_is_held_while_the_service_is_in_use(kipgate, echo):
    """The database would be idle for five of its idle timeouts; it stays as long as the exchange of
    the service lasts, and both go afterwards."""
    gate = kipgate(
        {
            "app": echo(routes=["/"], needs=["db"], idle_timeout="500ms"),
            "db": echo(idle_timeout="400ms"),
        }
    )
    stream = open_stream(gate, "")
    time.sleep(2)  # that nothing happens has no event
    assert gate.witness.actions("die", "db") == []
    stream.close()
    gate.witness.wait_none(15, "app")
    gate.witness.wait_none(15, "db")
    assert at(gate, "die", "app") <= at(gate, "die", "db"), "the need goes last"


def test_need_that_is_gone_comes_back_first(kipgate, echo):
    """The database was killed while the application sleeps: the next request waits for both."""
    gate = kipgate(
        {
            "app": echo(routes=["/"], needs=["db"], idle_timeout="10m"),
            "db": echo(idle_timeout="10m"),
        }
    )
    assert gate.get("/", timeout=30).status == 200
    assert gate.admin.sleep("app").status == 200
    gate.witness.wait_none(10, "app")
    (database,) = gate.witness.containers("db")
    gate.witness.client.api.kill(database["Id"])
    wait_until(
        lambda: database["Id"] not in [c["Id"] for c in gate.witness.containers("db")],
        10,
        "the killed one is gone",
        0.02,
    )
    mark = gate.witness.events.mark()
    assert gate.get("/", timeout=30).status == 200
    db = gate.witness.wait("start", 10, "db", mark)["timeNano"]
    app = gate.witness.wait("start", 10, "app", mark)["timeNano"]
    assert db < app


def test_needs_of_a_paused_service(kipgate, echo):
    """A paused application whose database was removed: the request that resumes it finds the
    database there again."""
    gate = kipgate(
        {
            "app": echo(routes=["/"], needs=["db"], pause_after="300ms", idle_timeout="1h"),
            "db": echo(idle_timeout="600ms"),
        }
    )
    assert gate.get("/", timeout=30).status == 200
    gate.witness.wait_states(10, "app", "paused")
    assert gate.get("/", timeout=30).status == 200
    assert len(gate.witness.containers("db")) == 1
    assert gate.witness.made("app") == 1


def test_need_that_fails_is_told(kipgate, echo):
    """The database ends at once: the request is answered with that reason, which names it, and the
    application is not started."""
    gate = kipgate(
        {"app": echo(routes=["/"], needs=["db"]), "db": echo(env=worker.exit_at_boot(7))}
    )
    response = gate.get("/", timeout=40)
    body = problem(response, response.status, reason_of(response))
    assert response.status in (502, 503) and "db" in body["detail"], body
    assert gate.witness.made("app") == 0
    again = gate.get("/", timeout=40)
    assert again.status in (502, 503) and "db" in again.body.decode(), again.body


def reason_of(response):
    """The last part of the type of a problem."""
    return response.body.decode().partition("urn:kipgate:")[2].partition('"')[0]


def test_need_that_never_listens_is_told_in_time(kipgate, echo):
    """The need's own start_timeout bounds the wait."""
    gate = kipgate(
        {
            "app": echo(routes=["/"], needs=["db"], start_timeout="20s"),
            "db": echo(env=worker.never_listen(), start_timeout="1s"),
        }
    )
    began = time.monotonic()
    response = gate.get("/", timeout=40)
    assert response.status in (502, 503, 504) and b"db" in response.body, response.body
    assert time.monotonic() - began < 15
    assert gate.witness.made("app") == 0


def test_wake_brings_the_needs(kipgate, echo):
    """A wake of the service is done when both are there."""
    gate = kipgate({"app": echo(routes=["/"], needs=["db"]), "db": echo()})
    assert gate.admin.wake("app").status == 200
    assert gate.witness.states("app") == ["running"] == gate.witness.states("db")


def test_needs_survive_a_kill_of_kipgate(kipgate, echo):
    """Killed while the database starts: the next run makes neither twice."""
    gate = kipgate(
        {"app": echo(routes=["/"], needs=["db"]), "db": echo(env=worker.start_delay(500))}
    )
    with gate.raw(20) as client:
        client.send(get("/"))
        gate.witness.wait("start", 10, "db")
        gate.kill9()
    gate.start()
    assert gate.get("/", timeout=30).status == 200
    assert len(gate.witness.containers("app")) == 1 == len(gate.witness.containers("db"))


def test_min_instances_bring_their_needs(kipgate, echo):
    """A service that is always there has its needs always there, too."""
    gate = kipgate(
        {
            "app": echo(routes=["/"], needs=["db"], min_instances=1),
            "db": echo(idle_timeout="300ms"),
        }
    )
    gate.witness.wait_states(20, "app", "running")
    gate.witness.wait_states(20, "db", "running")
    assert gate.get("/", timeout=20).status == 200


def test_load_on_the_service_holds_the_need(kipgate, echo):
    """Requests that each end at once, over many idle timeouts of the need: it is never reaped
    between them."""
    gate = kipgate(
        {
            "app": echo(routes=["/"], needs=["db"], idle_timeout="800ms"),
            "db": echo(idle_timeout="200ms"),
        }
    )
    asked = [Background(gate.get, "/", timeout=30) for _ in range(3)]
    assert [task.result(30).status for task in asked] == [200] * 3
    for _ in range(8):
        time.sleep(0.4)  # less than the service's idle timeout, more than the need's
        assert gate.get("/", timeout=30).status == 200
    assert gate.witness.made("app") == 1, "it was in use all the time"
    assert gate.witness.made("db") == 1 and gate.witness.actions("die", "db") == []


@pytest.mark.parametrize(
    "needs, words",
    [
        ({"a": ["b"], "b": ["a"]}, "circle"),
        ({"a": ["b"], "b": ["c"], "c": ["a"]}, "circle"),
        ({"a": ["a"]}, "needs"),
        ({"a": ["nobody"]}, "nobody"),
    ],
)
def test_impossible_needs_are_configuration_errors(kipgate, echo, needs, words):
    """A circle, oneself, a name that is none: told at the key, and nothing is started."""
    services = {n: echo(routes=[f"/{n}"], needs=list(names)) for n, names in needs.items()}
    checked = kipgate(services, start=False).cli("check")
    assert checked.returncode == 2, checked.stdout
    assert ".needs" in checked.stderr and words in checked.stderr, checked.stderr
