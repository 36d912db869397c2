# SPDX-License-Identifier: Apache-2.0
"""The engine calls that Kipgate makes are those of packaging/socket-proxy.env, all of them and no
others, and each is as moby describes it. The difficulty: a list that allows more than is used would
pass every test, so each of its words must be seen in use."""
import json
import pathlib
import re
import time

import docker
import pytest

from harness import engine_schema, raw, settings, socket_proxy
from harness.socket_proxy import Call, SocketProxy, allow_list
from harness.waiting import wait_until

ROOT = pathlib.Path(__file__).parents[2]
# Everything that the allow-list lets pass, in its shortest form.
ALL = {
    "GET /_ping",
    "GET /info",
    "GET /events",
    "GET /containers/json",
    "GET /containers/X/json",
    "GET /containers/X/stats",
    "GET /images/X/json",
    "GET /networks/X",
    "POST /containers/create",
    "POST /containers/X/start",
    "POST /containers/X/stop",
    "POST /containers/X/pause",
    "POST /containers/X/unpause",
    "POST /networks/create",
    "POST /images/create",
    "DELETE /containers/X",
    "DELETE /networks/X",
}
NEVER = [
    ("POST", "/containers/x/exec"),
    ("POST", "/exec/x/start"),
    ("POST", "/containers/x/attach"),
    ("POST", "/v1.41/containers/x/update"),
    ("POST", "/containers/x/kill"),
    ("POST", "/build"),
    ("POST", "/commit"),
    ("GET", "/containers/x/archive"),
    ("PUT", "/containers/x/archive"),
    ("GET", "/containers/x/export"),
    ("GET", "/containers/x/logs"),
    ("POST", "/swarm/init"),
    ("GET", "/plugins"),
    ("POST", "/volumes/create"),
    ("DELETE", "/images/x"),
    ("GET", "/containers/x/../../info/json"),
    ("POST", "/containers/create/x"),
    ("GET", "/v2/_ping"),
    ("HEAD", "/_ping"),
]


@pytest.fixture(scope="module")
def schema():
    """moby's description."""
    return engine_schema.Schema()


@pytest.fixture
def proxy():
    """In front of the engine."""
    with SocketProxy(settings.docker_host()) as made:
        yield made


def shortest(call):
    """A call without what differs from one to the next."""
    path = re.sub(r"^/v1\.[0-9]+", "", call.path)
    path = re.sub(r"^/images/.+/json$", "/images/X/json", path)
    path = re.sub(r"^/networks/(?!create$).+", "/networks/X", path)
    path = re.sub(r"^/containers/(?!json$|create$)[^/]+", "/containers/X", path)
    return f"{call.method} {path}"


def rich(directory):
    """A service with all that a container can be given."""
    (directory / "data").mkdir()
    return {
        "env": {"A": "b"},
        "labels": {"my": "own"},
        "volumes": [f"{directory}/data:/data:ro"],
        "user": "65534:65534",
        "memory": "64MiB",
        "cpus": 0.5,
        "pids": 64,
        "cap_add": ["NET_BIND_SERVICE"],
        "cap_drop": ["CHOWN"],
        "read_only": True,
        "tmpfs": ["/scratch:size=1m"],
        "init": True,
        "runtime": "runc",
        "devices": ["/dev/null"],
        "routes": ["/rich"],
    }


def walk(gate):
    """Through everything that makes an engine call."""
    for target in ("/", "/rich", "/strict", "/socket", "/stop"):
        response = gate.get(target, timeout=30)
        assert response.status == 200, (target, response.status, response.body, gate.tail(15))
    assert gate.get("/absent", timeout=30).status in (502, 503), "its registry is not there"
    wait_until(lambda: gate.witness.states("echo") == ["paused"], 10, "a paused instance", 0.02)
    assert gate.get("/").status == 200
    wait_until(lambda: gate.witness.states("stop") == ["exited"], 10, "a stopped instance", 0.02)
    assert gate.get("/stop").status == 200
    gate.wait_log(15, event="sandbox-parked")
    for service in gate.config["services"]:
        assert gate.admin.sleep(service).status == 200


def test_the_allow_list_is_used_whole_and_nothing_else_is_asked(kipgate, echo, proxy, schema):
    """A whole life behind the proxy: nothing refused, everything allowed seen, all as moby says."""
    gate = kipgate(start=False, config={"engine": proxy.host, "paused_memory": "1GiB"})
    gate.config["services"] = {
        "echo": echo(routes=["/"], pause_after="200ms"),
        "rich": echo(**rich(gate.directory)),
        "strict": echo(routes=["/strict"], profile="strict"),
        "stop": echo(routes=["/stop"], idle_timeout="200ms", on_idle="stop"),
        "absent": echo(routes=["/absent"], image="127.0.0.1:1/absent:1", pull="missing"),
        "socket": echo(routes=["/socket"], env={"SOCKET": "/tmp/worker.sock"}),
    }
    del gate.config["services"]["socket"]["port"]
    gate.config["services"]["socket"]["socket"] = "/tmp/worker.sock"
    gate.start()
    walk(gate)
    gate.stop()
    assert [shortest(call) for call in proxy.refused] == []
    assert {shortest(call) for call in proxy.calls} == ALL
    wrong = {words for call in proxy.calls for words in schema.wrong(call)}
    assert not wrong, "\n".join(sorted(wrong))


def test_the_proxy_refuses_all_else(proxy):
    """Also what looks nearly like it."""
    address = proxy.host.removeprefix("unix://")
    for method, path in NEVER:
        assert raw.get(address, path, method=method, timeout=5).status == 403, (method, path)
    assert len(proxy.refused) == len(NEVER) and not proxy.calls
    api = docker.APIClient(base_url=proxy.host, version="1.41")
    assert api.containers(all=True) is not None
    with pytest.raises(docker.errors.APIError, match="403"):
        api.exec_create("x", "id")


def test_security_md_shows_the_same_list():
    """What a reader copies from there is what was tested."""
    shown = {}
    for line in (ROOT / "SECURITY.md").read_text().splitlines():
        found = re.fullmatch(r"    (GET|POST|DELETE) +(\^.*\$)", line)
        if found:
            shown[found[1]] = found[2]
    assert shown == {method: words.pattern for method, words in allow_list().items()}


def test_the_schema_check_finds_what_is_wrong(schema):
    """Else the test above would prove nothing."""
    body = {"Image": "x", "HostConfig": {"Memory": 1, "CapDrop": ["ALL"]}, "Labels": {"a": "b"}}

    def wrong(changed, query=None):
        query = {"name": "x"} if query is None else query
        return schema.wrong(
            Call("POST", "/v1.41/containers/create", query, json.dumps(changed).encode())
        )

    assert wrong(body) == []
    assert "Memroy" in str(wrong({**body, "HostConfig": {"Memroy": 1}}))
    assert "integer" in str(wrong({**body, "HostConfig": {"Memory": "1g"}}))
    assert "not of type" in str(wrong({**body, "Labels": {"a": 1}}))
    assert "nmae" in str(wrong(body, {"nmae": "x"}))
    assert schema.wrong(Call("GET", "/v1.41/containers/x/stop", {}, b""))
    assert schema.wrong(Call("POST", "/v1.41/containers/x/stop", {"t": "soon"}, b""))
    assert not schema.wrong(Call("POST", "/v1.41/containers/x/stop", {"t": "3"}, b""))
    assert schema.wrong(Call("POST", "/images/create", {}, b"")) == []


def test_a_call_that_is_given_up_ends_at_the_engine_too(proxy):
    """What the proxy relays ends with either side, as without it."""
    before = len(proxy.calls)
    with raw.RawClient(proxy.host.removeprefix("unix://")) as follower:
        follower.send(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        assert follower.head().status == 200
    assert len(proxy.calls) == before + 1
    time.sleep(0.05)
    assert socket_proxy.ALLOW_LIST.exists() and not proxy.refused
