# SPDX-License-Identifier: Apache-2.0
"""The images of this repository at work: the image worker behind Kipgate, Kipgate in its own image,
and the compose file."""
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import uuid

import pytest

from harness import engine_socket, net, raw, settings
from harness.kipgate import Kipgate
from harness.pictures import measure, multipart, png
from harness.waiting import wait_until
from harness.witness import OWNER, client

ROOT = pathlib.Path(__file__).parents[2]


# --- the image worker -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gate():
    """The image worker, cold."""
    services = {
        "images": {"image": settings.image_worker(), "pull": "never", "idle_timeout": "10m"}
    }
    with Kipgate(services) as kipgate:
        yield kipgate


def convert(gate, target, data, name="picture.png"):
    """Posts a picture, gives the worked one."""
    kind, body = multipart(data, name)
    response = gate.get(
        target, method="POST", fields=[("Content-Type", kind)], body=body, timeout=60
    )
    assert response.status == 200, (response.status, response.body[:300])
    return response, measure(response.body)


def test_cold_resize_of_a_posted_picture(gate):
    """The first request of all makes the container and is answered with a picture."""
    response, size = convert(gate, "/resize?width=200", png(640, 480))
    assert size[1:] == (200, 150) and response.one("Server-Timing")


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_convert(gate, kind):
    """A real conversion, and back to PNG, with the picture's size kept."""
    response, size = convert(gate, f"/convert?type={kind}", png(320, 200))
    assert size == (kind, 320, 200)
    assert response.one("Content-Type") == f"image/{kind}"
    _, back = convert(gate, "/convert?type=png", response.body, f"picture.{kind}")
    assert back == ("png", 320, 200)


def test_crop_and_thumbnail(gate):
    """A crop has the asked size; a thumbnail fits into it."""
    _, crop = convert(gate, "/crop?width=100&height=50", png(640, 480))
    assert crop[1:] == (100, 50)
    _, thumb = convert(gate, "/thumbnail?width=64", png(640, 480))
    assert max(thumb[1:]) == 64


def test_what_is_no_picture_is_the_workers_error(gate):
    """Passed on as the worker said it: a 4xx, not a problem of ours."""
    kind, body = multipart(b"no picture at all")
    response = gate.get(
        "/resize?width=10", method="POST", fields=[("Content-Type", kind)], body=body
    )
    assert 400 <= response.status < 500 and response.status not in (404, 405, 413), response.status
    assert b"urn:kipgate" not in response.body


def test_checked_out_where_files_are_their_owners_alone(tmp_path):
    """With umask 077: the image's user can read what is its own all the same."""
    sdk = client(settings.docker_host())
    for name, files in (("image-worker", "/usr/lib/image-worker /etc/image-worker"),
                        ("grpc-worker", "/usr/lib/grpc-worker")):
        shutil.copytree(ROOT / "examples" / name, tmp_path / name)
        for path in (tmp_path / name).rglob("*"):
            path.chmod(path.stat().st_mode & 0o700)
        tag = f"kgtest-{uuid.uuid4().hex[:8]}"
        subprocess.run(["docker", "build", "-q", "--network", "host", "-t", tag, tmp_path / name],
                       check=True, env={**os.environ, "DOCKER_BUILDKIT": "0"}, timeout=300)
        try:
            find = ["find", *files.split(), "!", "-readable"]
            closed = sdk.containers.run(tag, find, remove=True)
            assert closed == b"", closed.decode()
        finally:
            sdk.images.remove(tag)


# --- Kipgate in a container -----------------------------------------------------------------------


@pytest.fixture
def contained(echo_image):
    """Kipgate from its own image on a network of its own, with the engine's socket mounted and the
    socket's group passed in."""
    sdk = client(settings.docker_host())
    socket_path = settings.docker_host().removeprefix("unix://")
    mark = uuid.uuid4().hex[:8]
    network = sdk.networks.create(f"kgtest-{mark}")
    owner = f"test-{mark}"
    container = sdk.containers.run(
        settings.kipgate_image(),
        detach=True,
        network=network.name,
        name=f"kgtest-{mark}",
        command=[
            "--image",
            echo_image,
            "--port",
            "8080",
            "--owner",
            owner,
            "--pull",
            "never",
            "--admin",
            "0.0.0.0:9090",
        ],
        group_add=[os.stat(socket_path).st_gid],
        volumes={socket_path: {"bind": "/var/run/docker.sock", "mode": "rw"}},
    )
    yield container
    container.remove(force=True)
    for worker in sdk.api.containers(all=True, filters={"label": f"{OWNER}={owner}"}):
        sdk.api.remove_container(worker["Id"], force=True)
    network.remove()


def address_of(container):
    """Where the containered front listens."""
    container.reload()
    assert container.status == "running", container.logs().decode()
    (network,) = container.attrs["NetworkSettings"]["Networks"].values()
    return network["IPAddress"], 8080


def accepts(container):
    """Whether the front takes connections."""
    try:
        raw.RawClient(address_of(container), 1).close()
        return True
    except OSError:
        return False


@pytest.fixture
def reachable_socket():
    """The socket must be usable by a group for this to be a test of it: root's own group counts."""
    with engine_socket.of_group(4711) as path:
        yield path


def test_kipgate_in_its_own_image(reachable_socket, contained):
    """Not root; the socket's group is passed in; workers are reached by the shared network."""
    wait_until(lambda: accepts(contained), 15, "the front in its container", 0.05)
    response = raw.get(address_of(contained), "/from-inside", timeout=30)
    assert response.status == 200, (response.status, response.body, contained.logs().decode())
    assert response.body.startswith(b"GET /from-inside HTTP/1.1")
    top = contained.top(ps_args="-eo pid,uid,gid,args")
    uids = {row[1] for row in top["Processes"] if "kipgate" in row[3]}
    assert uids and "0" not in uids, top
    health = contained.client.api.inspect_image(settings.kipgate_image())
    assert health["Config"]["User"] not in ("", "0", "root")
    assert health["Size"] < 150 << 20, "small"
    code, output = contained.exec_run(["kipgate", "health", "--ready"])
    assert code == 0, output


def readme_run(socket, volume, port, service):
    """`docker run` as README.md has it, with names and the port of this test."""
    kipgate = f"{settings.kipgate_image()} --pull never --name {service}"
    text = re.search(r"^    (docker run (?:.*\\\n)*.*)$", (ROOT / "README.md").read_text(), re.M)[1]
    for was, now in (
        ("$(stat -c %g /var/run/docker.sock)", str(os.stat(socket).st_gid)),
        ("-v /var/run/docker.sock:", f"-v {socket}:"),
        ("-v kipgate:", f"-v {volume}:"),
        ("-p 8080:", f"-p 127.0.0.1:{port}:"),
        ("docker run ", "docker run -d "),
        (" kipgate --image h2non/imaginary --port 9000",
         f" {kipgate} --image {settings.echo_image()} --port 8080"),
    ):
        text = text.replace(was, now)
    return shlex.split(text.replace("\\\n", " "))


def test_kipgate_as_the_readme_runs_it_finds_its_workers_again(reachable_socket):
    """Stopped and run anew by the same command: the worker of the first is the second's."""
    sdk, mark, port = client(settings.docker_host()), uuid.uuid4().hex[:8], net.free_port()
    front, service = ("127.0.0.1", port), f"r{mark}"
    made, workers = [], []

    def answered():
        try:
            return raw.get(front, "/", timeout=30)
        except (OSError, raw.Broken):
            return None

    try:
        for _ in range(2):
            run = subprocess.run(readme_run(reachable_socket, f"kg{mark}", port, service),
                                 capture_output=True, text=True, timeout=60)
            assert run.returncode == 0, run.stderr
            made.append(sdk.containers.get(run.stdout.strip()))
            response = wait_until(answered, 30, "the front behind the published port", 0.1)
            assert response.status == 200, (response.body, made[-1].logs().decode())
            workers.append({one["Id"] for one in sdk.api.containers(
                all=True, filters={"label": f"io.kipgate.service={service}"})})
            made[-1].stop()
            assert made[-1].wait()["StatusCode"] == 0
            made[-1].remove()
        assert len(workers[0]) == 1 and workers[0] == workers[1]
    finally:
        for one in made:
            if sdk.api.containers(all=True, filters={"id": one.id}):
                one.remove(force=True, v=True)
        owners = {one["Labels"][OWNER] for one in sdk.api.containers(
            all=True, filters={"label": f"io.kipgate.service={service}"})}
        for owner in owners:
            for one in sdk.api.containers(all=True, filters={"label": f"{OWNER}={owner}"}):
                sdk.api.remove_container(one["Id"], force=True)
        subprocess.run(["docker", "volume", "rm", "-f", f"kg{mark}"], capture_output=True)


# --- compose --------------------------------------------------------------------------------------


def compose(*words, env=None):
    """Runs docker-compose on the example."""
    program = shutil.which("docker-compose")
    assert program, "docker-compose is not installed (Debian package docker-compose)"
    return subprocess.run(
        [program, "-f", str(ROOT / "examples/compose.yaml"), *words],
        text=True,
        capture_output=True,
        timeout=120,
        env={**os.environ, **(env or {})},
    )


@pytest.fixture
def composed(reachable_socket):
    """The example's project, up: (its containers, the published port). The worker's image is there
    under the name that the example's configuration says."""
    port, mark = net.free_port(), uuid.uuid4().hex[:6]
    sdk = client(settings.docker_host())
    sdk.images.get(settings.image_worker()).tag("kipgate-image-worker", "latest")
    env = {
        "COMPOSE_PROJECT_NAME": f"kg{mark}",
        "DOCKER_SOCKET": reachable_socket,
        "DOCKER_GID": "4711",
        "KIPGATE_USER": "65532:65532",
        "KIPGATE_PORT": str(port),
        "KIPGATE_TAG": settings.kipgate_image(),
    }
    shown = compose("config", env=env)
    assert shown.returncode == 0, shown.stderr
    up = compose("up", "-d", "--no-build", env=env)
    try:
        assert up.returncode == 0, up.stderr
        project = {"label": f"com.docker.compose.project=kg{mark}"}
        yield sdk.containers.list(filters=project), ("127.0.0.1", port)
    finally:
        down = compose("down", "-v", "-t", "40", env=env)
    assert down.returncode == 0, down.stderr
    assert sdk.networks.list(filters=project) == [], "`down` finds the network free"


def test_compose_file_serves_a_cold_request(composed):
    """`docker-compose up`, a picture posted to the published port, and the worked one comes
    back."""
    containers, front = composed
    assert len(containers) == 1 and containers[0].status == "running"

    def resized():
        try:
            kind, body = multipart(png(640, 480))
            return raw.get(
                front,
                "/resize?width=200",
                method="POST",
                body=body,
                timeout=60,
                fields=[("Content-Type", kind)],
            )
        except (OSError, raw.Broken):
            return None

    response = wait_until(resized, 20, "the front behind the published port", 0.1)
    assert response.status == 200, (response.body, containers[0].logs().decode())
    assert measure(response.body)[1:] == (200, 150) and response.one("Server-Timing")
