# SPDX-License-Identifier: Apache-2.0
"""The admin API, the metrics, the events and the command line, as an operator uses them."""
import json
import os
import re
import select
import signal
import socket
import subprocess

import pytest

from harness import echo as worker
from harness import settings
from harness.kipgate import Kipgate, problem
from harness.waiting import Background, wait_until


@pytest.fixture(scope="module")
def gate(echo):
    """Admin on TCP; one service in use, one never used, one that fails."""
    services = {
        "echo": echo(routes=["/"], idle_timeout="10m"),
        "idle": echo(routes=["/idle"], idle_timeout="1h"),
        "exits": echo(routes=["/exits"], env=worker.exit_at_boot(7)),
    }
    with Kipgate(services, admin_tcp=True) as kipgate:
        assert kipgate.get("/").status == 200
        yield kipgate


# --- the API --------------------------------------------------------------------------------------


def test_services_list_and_one(gate):
    """Configuration, and per instance what the interface names."""
    listed = gate.admin.json("/v1/services")
    text = json.dumps(listed)
    assert all(f'"{name}"' in text for name in ("echo", "idle", "exits"))
    wait_until(lambda: gate.admin.instances("echo")[0]["reap_in_seconds"], 5, "its lease is back")
    one = gate.admin.service("echo")
    (instance,) = one["instances"]
    assert set(instance) >= {
        "id",
        "state",
        "address",
        "exchanges",
        "idle_seconds",
        "reap_in_seconds",
    }
    container = gate.witness.wait_one(5, "echo")
    assert container["Id"].startswith(instance["id"]) or instance["id"].startswith("kipgate-echo-")
    assert instance["exchanges"] == 0 and 0 <= instance["idle_seconds"] < 60
    assert 540 < instance["reap_in_seconds"] <= 600
    assert instance["state"].lower() == "ready" and ":8080" in instance["address"]
    assert gate.admin.instances("idle") == []


@pytest.mark.parametrize(
    "method,path,status",
    [
        ("GET", "/v1/services/none", 404),
        ("GET", "/nothing", 404),
        ("POST", "/v1/services/none/wake", 404),
        ("DELETE", "/v1/services/none", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/healthz", 405),
        ("GET", "/v1/reload", 405),
        ("GET", "/v1/services/echo/wake", 405),
        ("POST", "/v1/services/echo/dance", 404),
    ],
)
def test_unknown_calls(gate, method, path, status):
    """Problems, as everywhere."""
    response = gate.admin.call(method, path)
    assert response.status == status, response.body
    assert response.one("Content-Type").startswith("application/problem+json")
    allowed = response.all("Allow")
    assert len(allowed) == (status == 405), allowed
    if allowed:
        assert json.loads(response.body)["detail"] == f"allowed: {allowed[0]}"
        assert method not in allowed[0].split(", ")


def test_wake_and_sleep(gate):
    """200 when done: ready, and gone."""
    assert gate.admin.wake("idle").status == 200
    assert gate.witness.wait_one(5, "idle")
    assert gate.admin.instances("idle")[0]["state"].lower() == "ready"
    assert gate.admin.wake("idle").status == 200, "already awake"
    assert gate.admin.sleep("idle").status == 200
    assert gate.witness.containers("idle") == []
    assert gate.admin.sleep("idle").status == 200, "already asleep"


def test_sleep_drains(gate):
    """An exchange ends well before its instance goes."""
    asked = Background(gate.get, "/idle/x", timeout=30)
    assert asked.result(30).status == 200
    slow = Background(gate.get, worker.drip(1000, 100, 100), timeout=30)
    wait_until(lambda: gate.admin.metric("kipgate_exchanges", service="echo") == 1, 5, "under way")
    assert gate.admin.sleep("echo", 30).status == 200
    response = slow.result(30)
    assert response.status == 200 and len(response.body) == 1000
    assert gate.get("/").status == 200


def test_wake_that_fails_is_a_problem(gate):
    """With the reason of the table."""
    response = gate.admin.wake("exits")
    assert response.status in (502, 503), response.body
    body = json.loads(response.body)
    assert body["type"] in ("urn:kipgate:instance-exited", "urn:kipgate:backing-off")
    assert "exits" in body["detail"]


def test_events_follow_a_whole_life(gate, echo):
    """Every state change of a cold start and a sleep, in order, for two followers."""
    gate.admin.sleep("idle")
    followers = [gate.admin.follow(), gate.admin.follow()]
    assert gate.get("/idle").status == 200
    assert gate.admin.sleep("idle").status == 200
    for follower in followers:
        follower.mailbox.wait(
            lambda e: e.get("service") == "idle" and e.get("to", "").upper() == "ABSENT",
            5,
            "the last state",
        )
        states = [
            e["to"].upper()
            for e in follower.mailbox.all()
            if e.get("service") == "idle" and "to" in e
        ]
        wanted = ["CREATING", "STARTING", "PROBING", "READY", "REMOVING", "ABSENT"]
        assert [s for s in states if s in wanted] == wanted, states
        follower.close()


def test_follower_that_leaves_is_forgotten(gate):
    """And Kipgate goes on."""
    for _ in range(20):
        gate.admin.follow().close()
    assert gate.admin.status("/healthz") == 200


def test_put_and_delete_a_service(gate, echo):
    """At run time, with all checks of a file."""
    response = gate.admin.call(
        "PUT", "/v1/services/extra", echo(routes=["/extra"], idle_timeout="7s")
    )
    assert response.status in (200, 201), response.body
    assert gate.get("/extra").status == 200
    assert '"7s"' in json.dumps(gate.admin.service("extra"))
    bad = gate.admin.call("PUT", "/v1/services/extra", {"image": "x", "nonsense": 1, "queue": -1})
    assert bad.status == 400 and b"nonsense" in bad.body and b"queue" in bad.body
    conflict = gate.admin.call("PUT", "/v1/services/second", echo(routes=["/extra"]))
    assert conflict.status in (400, 409) and b"/extra" in conflict.body
    assert gate.admin.call("PUT", "/v1/services/BAD_NAME", echo(routes=["/bad"])).status == 400
    assert gate.admin.call("PUT", "/v1/services/extra", b"{").status == 400
    assert gate.get("/extra").status == 200
    gone = gate.admin.call("DELETE", "/v1/services/extra")
    assert gone.status in (200, 202, 204), gone.body
    wait_until(lambda: not gate.witness.containers("extra"), 10, "the deleted service's container")
    assert gate.admin.status("/v1/services/extra") == 404


def test_what_the_file_gave_stays_with_what_it_was_given_to(kipgate, echo, tmp_path):
    """A service with a volume: by PUT its memory changes and it is made anew, with the volume; a
    command, an image or a variable does not come near it, nor does it get another volume."""
    (tmp_path / "word").write_text("given")
    given = echo(volumes=[f"{tmp_path}:/given:ro"], memory="64MiB", idle_timeout="10m")
    made = kipgate({"echo": given})
    assert made.get("/", timeout=20).status == 200
    before = made.witness.wait_one(5)["Id"]

    def put(**changes):
        return made.admin.call("PUT", "/v1/services/echo", {**given, **changes})

    for changes in (
        {"command": ["cat", "/given/word"]},
        {"entrypoint": ["cat", "/given/word"]},
        {"env": {"LD_PRELOAD": "/given/word"}},
        {"image": "debian:bookworm-slim"},
        {"user": "0"},
        {"volumes": ["/:/given"]},
        {"memory": "96MiB", "labels": {"a": "b"}},
    ):
        refused = put(**changes)
        assert refused.status == 403 and b"urn:kipgate:only-by-file" in refused.body, refused.body
        assert b"service echo: something else is to be run" in refused.body, refused.body
    assert made.witness.wait_one(5)["Id"] == before
    assert put(memory="96MiB", cpus=1, pids=64, queue=7).status == 200
    wait_until(lambda: before not in made.witness.ids("echo"), 20, "the old one is gone")
    assert made.get("/", timeout=20).status == 200
    host = made.witness.inspect(made.witness.wait_one(5)["Id"])["HostConfig"]
    assert host["Binds"] == [f"{tmp_path}:/given:ro"] and host["Memory"] == 96 << 20


def test_reload_with_errors_keeps_the_old_configuration(gate):
    """400 with all of them and their places; nothing changed."""
    good = json.dumps(gate.config)
    answer = gate.reload(
        lambda c: c["services"].update(
            bad={"image": "x", "routes": ["/bad"], "nonsense": 1, "idle_timeout": "5 parsecs"},
            worse={"port": 1, "routes": ["/"]},
        )
    )
    text = answer.body.decode()
    assert answer.status == 400
    for word in ("nonsense", "idle_timeout", "image"):
        assert word in text, text
    assert re.search(r"kipgate\.json:\d+:\d+: ", text), text
    assert gate.admin.status("/v1/services/bad") == 404 and gate.get("/").status == 200
    gate.config = json.loads(good)
    gate.write_config()
    assert gate.admin.call("POST", "/v1/reload").status == 200


def test_reload_of_what_cannot_change(gate):
    """`listen` and its like need a restart, and that is said."""
    good = dict(gate.config)
    answer = gate.reload(lambda c: c.update(fronts=1))
    assert answer.status == 400 and b"fronts" in answer.body
    gate.config = good
    gate.write_config()


def test_other_cores_change_no_defaults_of_what_runs(kipgate, echo):
    """Cores come and go (cpusets, machines that grow): a reload asks for no other fronts by that."""
    cores = os.sched_getaffinity(0)
    if len(cores) == 1:
        pytest.skip("needs two cores")
    gate = kipgate({"echo": echo()}, config={"fronts": None}, start=False)
    gate.spawn()
    os.sched_setaffinity(gate.process.pid, {min(cores)})
    gate.wait_ready()
    for some in ({min(cores)}, cores):
        os.sched_setaffinity(gate.process.pid, some)
        answer = gate.reload(lambda c: c.update(drain_timeout=f"{len(some)}s"))
        assert answer.status == 200, answer.body


def test_changes_that_come_at_once_cost_no_front(kipgate, echo):
    """Each is told to fronts as a whole, faster than they read: they hear of the last one."""
    monitors = [{"path": f"/{n}"} for n in range(8)]
    many = {f"s{n}": echo(routes=[f"/s{n}"], quiet=monitors) for n in range(1200)}
    gate = kipgate(many, admin_tcp=True)
    fronts, added = gate.fronts(), [f"n{n}" for n in range(24)]
    changes = [
        Background(
            gate.admin.call,
            "PUT",
            f"/v1/services/{name}",
            echo(routes=[f"/{name}"], quiet=[{"path": f"/{name}"}]),
        )
        for name in added
    ]
    assert [change.result(60).status for change in changes] == [201] * len(added)
    for name in added:  # nothing is woken: no instance is ready
        wait_until(lambda: gate.get(f"/{name}").status == 503, 20, "it is routed")
    assert gate.fronts() == fronts


# --- metrics and logs -----------------------------------------------------------------------------


def test_metrics_of_the_interface(gate):
    """Every promised name is there after a life, with its labels."""
    assert gate.get("/").status == 200 and gate.get("nowhere.test").status == 400
    gate.admin.wake("idle")
    gate.admin.sleep("idle")
    samples = gate.admin.metrics()
    names = {}
    for name, labels in samples:
        names.setdefault(name, set()).update(key for key, _ in labels)
    for name, labels in {
        "requests_total": {"service", "code"},
        "request_duration_seconds_bucket": {"service", "le"},
        "cold_starts_total": {"service", "result"},
        "cold_start_seconds_bucket": {"service", "phase", "le"},
        "instances": {"service", "state"},
        "exchanges": {"service"},
        "waiting": {"service"},
        "refused_total": {"service", "reason"},
        "reaped_total": {"service", "action"},
        "resumes_total": {"service"},
        "sandboxes": {"state"},
        "sandboxes_off": set(),
        "starts_total": {"network"},
        "engine_up": set(),
        "engine_call_seconds_bucket": {"op", "le"},
        "build_info": {"version"},
    }.items():
        assert f"kipgate_{name}" in names, (name, sorted(names))
        assert labels <= names[f"kipgate_{name}"], (name, names[f"kipgate_{name}"])
    assert gate.admin.metric("kipgate_engine_up") == 1
    phases = {dict(l)["phase"] for n, l in samples if n == "kipgate_cold_start_seconds_count"}
    assert {"create", "start", "ready", "total"} <= phases


def test_request_counters_add_up(gate):
    """A hundred requests are a hundred, over all fronts; the histogram's buckets grow."""

    def counted():
        return gate.admin.metric("kipgate_requests_total", service="echo", code="200")

    before = counted()
    for _ in range(100):
        assert gate.get("/").status == 200
    assert counted() - before == 100
    buckets = sorted(
        (float(dict(l)["le"].replace("+Inf", "inf")), v)
        for (n, l), v in gate.admin.metrics().items()
        if n == "kipgate_request_duration_seconds_bucket" and dict(l)["service"] == "echo"
    )
    counts = [v for _, v in buckets]
    assert counts == sorted(counts) and buckets[-1][0] == float("inf")
    assert counts[-1] == gate.admin.metric("kipgate_request_duration_seconds_count", service="echo")


def test_log_lines_of_state_changes(gate):
    """One line each, with service, instance, from, to, why and ms; every line is JSON."""
    gate.admin.wake("idle")
    gate.admin.sleep("idle")
    lines = [line for line in gate.logs.all() if line.get("service") == "idle" and "to" in line]
    assert lines
    for line in lines:
        assert set(line) >= {"service", "instance", "from", "to", "why", "ms"}, line
    assert not any("unparsed" in line for line in gate.logs.all())


def test_access_log(kipgate, echo):
    """JSON lines with the request's id; control bytes of a client cannot forge a line."""
    made = kipgate({"echo": echo()}, start=False)
    path = made.directory / "access.log"
    made.config["access_log"] = str(path)
    path.touch()
    path.chmod(0o666)
    made.start()
    response = made.get('/a"b?c={}', fields=[("X-Request-Id", "my-id"), ("User-Agent", 'x"},{"y')])
    assert response.status == 200

    def lines():
        return [json.loads(line) for line in path.read_text().splitlines()]

    wait_until(lines, 5, "an access log line")
    (line,) = lines()
    assert "my-id" in line.values() and 200 in line.values() and "echo" in line.values(), line


# --- the command line -----------------------------------------------------------------------------


def test_version_and_help(gate):
    """Complete, and fit for a terminal."""
    done = subprocess.run([gate.binary, "version"], capture_output=True, text=True)
    assert done.returncode == 0 and re.search(r"\d+\.\d+\.\d+", done.stdout)
    done = subprocess.run([gate.binary, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert all(len(line) <= 100 for line in done.stdout.splitlines())
    for word in (
        "serve",
        "check",
        "ps",
        "wake",
        "sleep",
        "events",
        "health",
        "version",
        "--listen",
        "--image",
        "--port",
        "--idle-timeout",
        "--remove-on-exit",
        "--config",
    ):
        assert word in done.stdout, word


def test_ps(gate):
    """For eyes and for programs."""
    done = gate.cli("ps")
    assert done.returncode == 0 and "echo" in done.stdout and "idle" in done.stdout, done.stderr
    done = gate.cli("ps", "--json")
    assert done.returncode == 0 and "echo" in json.dumps(json.loads(done.stdout))


def test_wake_sleep_and_their_exit_status(gate):
    """0 when done, 1 with the reason when not, 2 for a misuse."""
    assert gate.cli("wake", "idle").returncode == 0
    assert gate.witness.wait_one(5, "idle")
    assert gate.cli("sleep", "idle").returncode == 0
    assert gate.witness.containers("idle") == []
    failed = gate.cli("wake", "exits")
    assert failed.returncode == 1 and re.search("instance-exited|backing-off|exit", failed.stderr)
    unknown = gate.cli("wake", "nobody")
    assert unknown.returncode == 1 and "nobody" in unknown.stderr
    assert gate.cli("wake").returncode == 2
    assert gate.cli("dance").returncode == 2


def test_events_command(gate):
    """One line per event, until it is interrupted."""
    process = subprocess.Popen(
        gate.command("events"),
        stdout=subprocess.PIPE,
        text=True,
        env=gate.env,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a nohup may ignore it
    )

    def heard():
        gate.admin.wake("idle")
        gate.admin.sleep("idle")
        return select.select([process.stdout], [], [], 1)[0]

    try:
        wait_until(heard, 20, "events", 0.05)
        lines = (process.stdout.readline() for _ in range(50))
        assert any("service=idle" in line for line in lines)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(5)
        process.stdout.close()


@pytest.mark.parametrize("words", [("ps",), ("ps", "--json"), ("events",)])
def test_output_that_cannot_be_written(gate, words):
    """A failure that is told, and the end of what would go on for ever."""
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen(
            gate.command(*words), stdout=full, stderr=subprocess.PIPE, text=True, env=gate.env
        )
        try:
            wait_until(lambda: wake_and_sleep(gate) and process.poll() is not None, 20, "its end")
            assert process.returncode == 1 and "cannot be written" in process.stderr.read()
        finally:
            process.kill()
            process.wait(5)
            process.stderr.close()


def wake_and_sleep(gate):
    """Something happens."""
    return gate.admin.wake("idle").status == gate.admin.sleep("idle").status == 200


def test_health_command(gate):
    """For HEALTHCHECK in images without a shell."""
    assert gate.cli("health").returncode == 0
    assert gate.cli("health", "--ready").returncode == 0
    elsewhere = dict(gate.env, KIPGATE_ADMIN="127.0.0.1:1")
    assert gate.cli("health", env=elsewhere).returncode == 1


def test_admin_over_a_unix_socket(kipgate, echo):
    """API and command line alike (most tests of this suite use it too)."""
    made = kipgate({"echo": echo()})
    assert isinstance(made.admin_address, str)
    assert made.cli("ps").returncode == 0
    assert made.cli("wake", "echo").returncode == 0


def test_an_admin_address_that_is_taken_is_told_as_such(kipgate, echo):
    """Port 9090 is many a program's, and who started Kipgate may never have heard of it."""
    gate = kipgate({"a": echo()}, start=False, admin_tcp=True)
    with socket.create_server(gate.admin_address):
        assert gate.spawn().process.wait(10) == 1
        host, port = gate.admin_address
        why = gate.wait_log(5, event="not-started")["why"]
    assert why == f"admin {host}:{port}: Address already in use"


def test_admin_off(kipgate, echo):
    """No listener at all; the service works."""
    made = kipgate({"echo": echo()}, start=False, config={"admin": "off"})
    made.spawn()
    wait_until(lambda: works(made), 20, "service without an admin API", 0.05)
    assert made.cli("ps").returncode == 1


def works(gate):
    """Whether a request is served."""
    try:
        return gate.get("/", timeout=15).status == 200
    except OSError:
        assert gate.process.poll() is None, gate.tail()
        return False


# --- configuration --------------------------------------------------------------------------------


def check(tmp_path, text, *flags, env=None, command="check"):
    """Runs `check` (or another command) on a file with this text."""
    path = tmp_path / "bad.json"
    path.write_text(text)
    return subprocess.run(
        [settings.kipgate_bin(), command, "--config", str(path), *flags],
        capture_output=True,
        text=True,
        timeout=20,
        env=settings.clean_environment(KIPGATE_STATE_DIR=str(tmp_path / "s"), **(env or {})),
    )


def test_configuration_errors_are_all_told_with_their_places(tmp_path):
    """FILE:LINE:COLUMN: key: what is wrong; exit status 2; nothing is started."""
    text = """{
  "listne": ["127.0.0.1:1"],
  "fronts": "two",
  "services": {
    "Bad_Name": {"image": "a"},
    "a": {"image": "a", "routes": ["/x"], "idle_timeout": "5 minutes", "queue": -1},
    "b": {"routes": ["/x"], "port": 70000}
  }
}"""
    for command in ("check", "serve"):
        done = check(tmp_path, text, command=command)
        assert done.returncode == 2 and done.stdout == ""
        told = re.findall(r"^.*bad\.json:(\d+):(\d+): (\S+): (.+)$", done.stderr, re.M)
        lines = {(int(line), key.rpartition(".")[2]) for line, _, key, _ in told}
        for wanted in [
            (2, "listne"),
            (3, "fronts"),
            (6, "idle_timeout"),
            (6, "queue"),
            (7, "port"),
        ]:
            assert wanted in lines, (wanted, done.stderr)
        assert any(line == 5 for line, _ in lines), done.stderr
        assert "image" in done.stderr, "b has none"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"services": {"a": {"image": "x"},}}',
        '{"services": {"a": {"image": "x"}}} x',
        '{"a\\ud800": 1}',
        '{"services": {"a": {"image": "x"}, "a": {"image": "y"}}}',
        '{"services": ' + "[" * 1000 + "]" * 1000 + "}",
    ],
    ids=["empty", "cut", "array", "null", "comma", "tail", "surrogate", "twice", "deep"],
)
def test_files_that_are_no_configuration(tmp_path, text):
    """Told with a place, never a crash."""
    done = check(tmp_path, text)
    assert done.returncode == 2 and re.search(r"bad\.json:\d+:\d+: ", done.stderr), done.stderr


def test_equal_routes_are_an_error(tmp_path):
    """Also when spelled differently."""
    done = check(
        tmp_path,
        json.dumps(
            {
                "services": {
                    "a": {"image": "x", "routes": ["A.test/p"]},
                    "b": {"image": "x", "routes": ["a.test/p/"]},
                }
            }
        ),
    )
    assert done.returncode == 2 and "route" in done.stderr


def test_routes_are_required_of_several_services(tmp_path):
    """One service has `/` by default; two must say."""
    done = check(tmp_path, json.dumps({"services": {"a": {"image": "x"}, "b": {"image": "x"}}}))
    assert done.returncode == 2 and "routes" in done.stderr


def test_precedence_of_file_environment_and_flag(tmp_path):
    """File < environment < flag."""
    text = json.dumps({"drain_timeout": "1s", "services": {"a": {"image": "x"}}})

    def effective(*flags, env=None):
        done = check(tmp_path, text, *flags, env=env)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["drain_timeout"]

    assert effective() == "1s"
    assert effective(env={"KIPGATE_DRAIN_TIMEOUT": "2s"}) == "2s"
    assert effective("--drain-timeout", "3s", env={"KIPGATE_DRAIN_TIMEOUT": "2s"}) == "3s"


def test_check_prints_a_configuration_that_it_takes_back(tmp_path):
    """The effective configuration is one."""
    first = check(
        tmp_path,
        json.dumps(
            {
                "services": {
                    "a": {
                        "image": "x",
                        "env": ["A=b"],
                        "idle_timeout": "90s",
                        "max_body": "1MiB",
                        "quiet": [{"path": "/m"}],
                        "health": {"path": "/h", "status": "200-299"},
                    }
                }
            }
        ),
    )
    assert first.returncode == 0, first.stderr
    again = check(tmp_path, first.stdout)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == json.loads(first.stdout)


def test_check_lists_what_is_looser_than_the_profile(tmp_path):
    """On standard error or beside the JSON, naming the service and the setting."""
    done = check(
        tmp_path, json.dumps({"services": {"a": {"image": "x", "cap_add": ["NET_ADMIN"]}}})
    )
    assert done.returncode == 0 and "NET_ADMIN" in done.stderr


def test_one_service_needs_no_file(kipgate, echo_image):
    """`kipgate --image IMAGE --port N` and a request, as on the first page."""
    made = kipgate(
        {},
        start=False,
        config={"services": None},
        flags=["--image", echo_image, "--port", "8080", "--idle-timeout", "9s"],
    )
    made.start()
    assert made.get("/any/path").status == 200
    assert len(made.witness.containers()) == 1


def test_published_reach_serves(kipgate, echo):
    """Where neither the address nor a network works: a published loopback port."""
    made = kipgate({"echo": echo()}, env={"KIPGATE_REACH": "published"})
    for i in range(3):
        assert made.get(f"/{i}").status == 200
    ports = made.witness.wait_one(5)["Ports"]
    assert [p["IP"] for p in ports if p.get("PublicPort")] == ["127.0.0.1"], ports
    assert made.admin.instances("echo")[0]["address"].startswith("127.0.0.1:")
    assert made.admin.sleep("echo").status == 200
    assert made.get("/").status == 200
    problem(made.get("/", host="a b"), 400, "bad-request")
