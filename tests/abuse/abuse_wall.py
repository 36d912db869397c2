# SPDX-License-Identifier: Apache-2.0
"""What a worker that looks around can reach, tried by real connections, on an engine that may set
up the firewall. The difficulty: that must not be this machine's, so all of it runs in a network
namespace of its own: `unshare --net python3 abuse_wall.py` prints what was found as JSON."""
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from abuse_five import image, service  # noqa: E402  (needs the path above)
from harness import settings  # noqa: E402
from harness.engine import Engine  # noqa: E402
from harness.kipgate import Kipgate  # noqa: E402
from harness.waiting import together  # noqa: E402

WAIT_MS = "1500"
ICC = "com.docker.network.bridge.enable_icc"


class Walled(Engine):
    """An engine that walls its networks off, as one does that nobody told otherwise."""

    def start(self):
        """Starts as the others do, and then anew with a firewall."""
        super().start()
        self.end_dockerd()
        # what lets other engines' containers talk in spite of a firewall is not for this one
        subprocess.run(["iptables", "-w", "-F", "FORWARD"], check=True)
        walls = ("--iptables=", "--ip-forward=")
        self.command = [
            w.replace("=false", "=true") if w.startswith(walls) else w for w in self.command
        ]
        self.start_dockerd()
        return self


def scan(gate, container, targets):
    """What that container says of these addresses."""
    command = ["node", "/abuse/scan.js", WAIT_MS, *targets]
    done = gate.witness.client.containers.get(container).exec_run(command)
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def address_of(gate, container):
    """Its address and its gateway, on whatever network it is."""
    seen = gate.witness.inspect(container)
    mode = seen["HostConfig"]["NetworkMode"]
    if mode.startswith("container:"):
        return address_of(gate, mode.partition(":")[2])
    (network,) = seen["NetworkSettings"]["Networks"].values()
    return network["IPAddress"], network["Gateway"]


FETCH = """
const [url] = process.argv.slice(1);
fetch(url, { signal: AbortSignal.timeout(5000) }).then(
  async (answer) => console.log(answer.status, (await answer.text()).length > 0),
  (error) => console.log(error.cause ? error.cause.code : error.name)
);
"""


def fetch(gate, container, url):
    """What a worker gets when it asks another one by HTTP: status and whether there was a body."""
    done = gate.witness.client.containers.get(container).exec_run(["node", "-e", FETCH, url])
    return done.output.decode().strip()


def files(gate, container):
    """Sockets that it finds in its file system."""
    command = ["sh", "-c", "find / -xdev -type s 2>/dev/null; ls /run /var/run"]
    return gate.witness.client.containers.get(container).exec_run(command).output.decode().split()


def around(gate):
    """Everything that one worker finds."""
    names = ("one", "two", "app", "db", "shop", "stock")
    one, two, app, need, shop, stock = (gate.witness.containers(n)[0]["Id"] for n in names)
    (mine, gateway), (other, _) = address_of(gate, one), address_of(gate, two)
    group = [f"{address_of(gate, c)[0]}:8080" for c in (app, need)]
    other_group = [f"{address_of(gate, c)[0]}:8080" for c in (shop, stock)]
    ports = [gate.front[1], gate.admin_address[1]]
    hosts = [f"{gateway}:{port}" for port in ports] + [f"127.0.0.1:{port}" for port in ports]
    looks = {
        "itself": lambda: scan(gate, one, [f"{mine}:8080"])[f"{mine}:8080"],
        "neighbour": lambda: scan(gate, one, [f"{other}:{port}" for port in (8080, 9000, 22)]),
        "back": lambda: scan(gate, two, [f"{mine}:8080"]),
        "need": lambda: fetch(gate, app, "http://db:8080/"),
        "other_need": lambda: fetch(gate, shop, "http://stock:8080/"),
        "group": lambda: scan(gate, need, group),
        "into_groups": lambda: scan(gate, one, group + other_group),
        "into_other_group": lambda: scan(gate, app, other_group),
        "into_first_group": lambda: scan(gate, stock, group),
        "out_of_groups": lambda: scan(gate, app, [f"{mine}:8080", f"{other}:8080"]),
        "name_outside": lambda: fetch(gate, one, "http://db:8080/"),
        "name_in_other_group": lambda: fetch(gate, shop, "http://db:8080/"),
        "host": lambda: scan(gate, one, hosts),
        "files": lambda: files(gate, one),
    }
    found = dict(zip(looks, together(list(looks.values()), 120)))
    found["networks"] = sorted(n["Options"][ICC] for n in gate.witness.networks())
    return found


def control(engine):
    """The same between two containers of an ordinary network: there it is open."""
    sdk = engine.client()
    network = sdk.networks.create("ordinary")
    made = [
        sdk.containers.run(image(), ["node"], detach=True, network="ordinary") for _ in range(2)
    ]
    try:
        made[0].reload()
        target = made[0].attrs["NetworkSettings"]["Networks"]["ordinary"]["IPAddress"] + ":8080"
        command = ["node", "/abuse/scan.js", "10000", target]
        for _ in range(20):  # until the first listens
            done = made[1].exec_run(command)
            word = json.loads(done.output)[target]
            if word == "open":
                break
        return word
    finally:
        for container in made:
            container.remove(force=True)
        network.remove()


def look():
    """Starts all of it and gives what was found."""
    found = {}
    directory = pathlib.Path(tempfile.mkdtemp(prefix="kge"))
    engine = Walled(directory)
    try:
        engine.start()
        engine.copy_image(settings.docker_host(), image())
        services = {name: service("node", routes=[f"/{name}"]) for name in ("one", "two")}
        for name, need in (("app", "db"), ("shop", "stock")):
            services[name] = service("node", routes=[f"/{name}"], needs=[need])
            services[need] = service("node", routes=[f"/{need}"])
        with Kipgate(services, engine=engine.host, admin_tcp=True) as gate:
            for name in ("one", "two", "app", "shop"):
                found[name] = gate.get(f"/{name}", timeout=60).status
            found.update(around(gate))
        found["control"] = control(engine)
    finally:
        engine.stop()
        shutil.rmtree(directory, ignore_errors=True)
    return found


if __name__ == "__main__":
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    socket.setdefaulttimeout(60)
    print(json.dumps(look()))
