# SPDX-License-Identifier: Apache-2.0
"""Kipgate's seal on a container, made again from what is documented. The difficulty: it must not be
taken from the program under test, or a fault in it would not be seen."""
import hashlib
import hmac
import pathlib

from harness.witness import OWNER, SERVICE, SPEC

MADE_OF = "io.kipgate.made-of"
SEAL = "io.kipgate.seal"

PLAIN = "".join(
    f"{word}\n"
    for word in (
        *("NetworkMode own", "PidMode own", "IpcMode own", "UTSMode own", "UsernsMode own"),
        *("binds", "caps", "devices", "options", "mounts", "from"),
    )
)


def key_of(gate):
    """The key of a Kipgate, made here if it has not been started yet."""
    path = pathlib.Path(gate.config["state_dir"]) / "key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(hashlib.sha256(gate.owner.encode()).hexdigest())
    return path.read_text()


def labels(gate, name, image, service, spec):
    """All labels of a worker without any setting, as this Kipgate would make it."""
    made_of = hashlib.sha256(f"image {image}\n\n{PLAIN}".encode()).hexdigest()
    fields = ("kipgate 1", name, gate.owner, service, spec, made_of, "worker")
    text = "".join(f"{field}\n" for field in fields)
    seal = hmac.new(key_of(gate).encode(), text.encode(), hashlib.sha256).hexdigest()
    return {OWNER: gate.owner, SERVICE: service, SPEC: spec, MADE_OF: made_of, SEAL: seal}
