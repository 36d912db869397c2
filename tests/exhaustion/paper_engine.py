# SPDX-License-Identifier: Apache-2.0
"""An engine on paper: it writes down what containers there are and runs none; their one worker is a
process here. A start takes a millisecond, so that thousands of them can be failed. The difficulty:
its books are the judge of what Kipgate leaves behind, so they are kept as an engine keeps them."""
import contextlib
import http.server
import json
import os
import re
import secrets
import socketserver
import subprocess
import threading
import urllib.parse

from harness import net, settings
from harness.waiting import wait_until

CREATED, RUNNING, EXITED = "created", "running", "exited"


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection of Kipgate's."""

    protocol_version = "HTTP/1.1"

    def address_string(self):
        """No address: a Unix socket."""
        return "unix"

    def log_message(self, *_):
        """Nothing to standard error."""

    def say(self, status, body=None):
        """An answer in JSON."""
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Api-Version", "1.41")
        self.send_header("Content-Type", "application/json")
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def serve(self):
        """Any request."""
        engine = self.server.engine
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        path, _, query = re.sub(r"^/v1\.\d+", "", self.path).partition("?")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if path == "/events":
                self.follow(engine)
            else:
                words = urllib.parse.parse_qs(query)
                self.say(*engine.answer(self.command, path, words, body))

    do_GET = do_POST = do_DELETE = serve  # the names that http.server looks for

    def follow(self, engine):
        """The event stream: silent, until the engine ends or its reader goes."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        self.connection.settimeout(None)
        self.close_connection = True
        while not engine.over and self.connection.recv(1):
            pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """As many connections as come."""

    daemon_threads = True
    request_queue_size = 64

    def get_request(self):
        """An address that http.server can print."""
        return self.socket.accept()[0], ("unix", 0)

    def handle_error(self, *_):
        """A client that is gone is none of ours."""


class PaperEngine:
    """`host` is its address, `port` that of the worker."""

    def __init__(self, directory):
        self.containers, self.lock, self.over = {}, threading.Lock(), False
        path = str(directory / "engine.sock")
        self.host, self.port = f"unix://{path}", net.free_port()
        self.server = Server(path, Handler)
        os.chmod(path, 0o666)  # whoever runs Kipgate
        self.server.engine = self
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        env = {**os.environ, "PORT": str(self.port)}
        self.worker = subprocess.Popen([settings.need("KIPGATE_ECHO", "the echo worker")], env=env)
        wait_until(lambda: not net.refused(("127.0.0.1", self.port)), 10, "the worker listens")

    def close(self):
        """Ends it and its worker."""
        self.over = True
        self.server.shutdown()
        self.server.server_close()
        self.worker.kill()
        self.worker.wait()

    def there(self):
        """Containers that were not removed."""
        with self.lock:
            return list(self.containers.values())

    # --- what it says -----------------------------------------------------------------------------

    def answer(self, method, path, query, body):
        """A status and what is to be told as JSON."""
        fixed = {"/_ping": "OK", "/info": {"InitBinary": "docker-init", "LoggingDriver": "none"}}
        if path in fixed:
            return 200, fixed[path]
        if path.startswith("/images/"):
            return 200, {"Id": "sha256:0", "Config": {"ExposedPorts": {}}}
        if path.startswith("/networks"):
            return 200, {
                "Id": "n",
                "Name": path.rpartition("/")[2],
                "Labels": {},
                "IPAM": {"Config": [{"Subnet": "127.0.0.0/8", "Gateway": "127.0.0.1"}]},
            }
        with self.lock:
            return self.container(method, path, query, body)

    def container(self, method, path, query, body):
        """Of /containers/..., with the books in hand."""
        if path == "/containers/json":
            return 200, [self.listed(c) for c in self.containers.values()]
        if path == "/containers/create":
            return self.create(query["name"][0], json.loads(body))
        name, _, verb = path.removeprefix("/containers/").partition("/")
        one = self.find(name)
        if one is None:
            return 404, {"message": f"No such container: {name}"}
        if method == "DELETE":
            del self.containers[one["Id"]]
            return 204, None
        if verb == "json":
            return 200, self.inspected(one)
        if verb in ("start", "stop", "kill"):
            state = RUNNING if verb == "start" else EXITED
            already = one["state"] == state
            one["state"] = state
            return (304 if already else 204), None
        return 404, {"message": "page not found"}

    def find(self, name):
        """By id or name."""
        for one in self.containers.values():
            if name in (one["Id"], one["name"]):
                return one
        return None

    def create(self, name, body):
        """A new container, unless the name is taken."""
        if self.find(name):
            return 409, {"message": f'The container name "/{name}" is already in use'}
        one = {"Id": secrets.token_hex(32), "name": name, "body": body, "state": CREATED}
        self.containers[one["Id"]] = one
        return 201, {"Id": one["Id"], "Warnings": []}

    def address(self, one):
        """What is known of its network."""
        ip = "127.0.0.1" if one["state"] == RUNNING else ""
        mode = one["body"].get("HostConfig", {}).get("NetworkMode") or "bridge"
        name = "bridge" if mode == "default" else mode
        return {"Networks": {name: {"IPAddress": ip, "NetworkID": "n"}}, "IPAddress": ip}

    def listed(self, one):
        """As in a list."""
        return {
            "Id": one["Id"],
            "Names": ["/" + one["name"]],
            "Image": one["body"]["Image"],
            "Labels": one["body"].get("Labels") or {},
            "State": one["state"],
            "NetworkSettings": self.address(one),
        }

    def inspected(self, one):
        """As by itself."""
        running = one["state"] == RUNNING
        return {
            "Id": one["Id"],
            "Name": "/" + one["name"],
            "Image": "sha256:0",
            "State": {"Status": one["state"], "Running": running, "ExitCode": 0},
            "Config": {"Labels": one["body"].get("Labels") or {}, "Image": one["body"]["Image"]},
            "HostConfig": one["body"].get("HostConfig") or {},
            "NetworkSettings": {**self.address(one), "Ports": {}},
        }
