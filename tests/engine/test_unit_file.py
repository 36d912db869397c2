# SPDX-License-Identifier: Apache-2.0
"""packaging/kipgate.service: it is valid, it exposes no more than it must, and Kipgate can live
with what it forbids. The difficulty: there is no systemd here to start it, so the system calls of a
run as an ordinary user are held against the unit's list."""
import json
import os
import pathlib
import re
import subprocess

from harness import engine_socket, net, settings
from harness.kipgate import copy_for_all

ROOT = pathlib.Path(__file__).parents[2]
UNIT = ROOT / "packaging/kipgate.service"
EXPOSURE = 18  # tenths, as systemd-analyze counts; its scale ends at 100
USER, GROUP = 4712, 4711


def analyze(*words):
    """Output of systemd-analyze and its status."""
    found = subprocess.run(
        ["systemd-analyze", "--no-pager", *words], capture_output=True, text=True, timeout=60
    )
    return found.returncode, found.stdout + found.stderr


def settings_of(name):
    """Values of a setting in the unit, in order."""
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


def test_the_unit_is_valid(tmp_path):
    """Every key and value is known to systemd."""
    unit = tmp_path / UNIT.name
    text = UNIT.read_text().replace("=kipgate ", f"={os.path.abspath(settings.kipgate_bin())} ")
    unit.write_text("\n".join(line for line in text.split("\n") if "man:" not in line))
    status, words = analyze("verify", "--man=no", str(unit))
    assert status == 0 and UNIT.name not in words, words


def test_the_unit_stays_closed(tmp_path):
    """Its exposure is what it was brought down to; one setting less is noticed."""
    status, words = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", str(UNIT))
    assert status == 0, words
    looser = tmp_path / UNIT.name
    looser.write_text(UNIT.read_text().replace("NoNewPrivileges=yes\n", ""))
    status, _ = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", str(looser))
    assert status != 0


def groups():
    """systemd's sets of system calls by name, as they are written."""
    found, name = {}, None
    for line in analyze("syscall-filter")[1].split("\n"):
        if re.fullmatch(r"@[a-z0-9-]+", line):
            name = line
        elif not line.startswith(" "):
            name = None
        elif name and not line.strip().startswith("#"):
            found.setdefault(name, set()).add(line.strip())
    return found


def members(word, known):
    """All calls of a set, or the one call."""
    if not word.startswith("@"):
        return {word}
    return set().union(*(members(one, known) for one in known[word]))


def allowed():
    """What the unit's lines come to; @default is always allowed."""
    known = groups()
    calls = set()
    for line in settings_of("SystemCallFilter"):
        named = set().union(*(members(word, known) for word in line.lstrip("~").split()))
        calls = calls - named if line.startswith("~") else calls | named
    return calls | members("@default", known)


def traced(gate):
    """A program that runs its Kipgate with all system calls written down."""
    program = gate.directory / "traced"
    program.write_text(
        f'#!/bin/sh\nexec strace -D -f -qq -s 0 -o {gate.directory}/calls {gate.binary} "$@"\n'
    )
    program.chmod(0o755)
    return str(program)


def test_every_call_is_one_that_the_unit_allows(kipgate, echo):
    """Start, cold requests, a reload, a reap, the end: as an ordinary user, as the unit does."""
    with engine_socket.of_group(GROUP):
        gate = kipgate({"a": echo(idle_timeout="200ms")}, start=False, user=(USER, GROUP))
        gate.binary = traced(gate)
        gate.start()
        assert gate.get("/", timeout=30).status == 200
        assert gate.reload(lambda config: config["services"]["a"].update(queue=7)).status == 200
        gate.witness.wait_none(30)
        assert gate.get("/", timeout=30).status == 200
        gate.stop()
        lines = (gate.directory / "calls").read_text(errors="replace").split("\n")
    used = {found[1] for line in lines if (found := re.match(r"\d+ +(\w+)\(", line))}
    assert {"seccomp", "capset", "epoll_wait", "execve"} <= used, sorted(used)
    assert used - allowed() <= {"unshare"}, "the unit's capability makes a namespace needless"
    families = {found[1] for line in lines if (found := re.search(r" socket\((AF_\w+)", line))}
    assert families == set(settings_of("RestrictAddressFamilies")[0].split()) - {"AF_INET6"}


# --- where it may write ---------------------------------------------------------------------------


def directories():
    """What systemd makes for the unit's user."""
    homes = {"State": "/var/lib", "Runtime": "/run", "Logs": "/var/log"}
    return [f"{home}/{name}" for kind, home in homes.items()
            for name in settings_of(f"{kind}Directory")]


def as_unit(gate):
    """A program that runs its Kipgate as the unit's user, with the unit's directories new and empty."""
    program = gate.directory / "as-unit"
    made = "; ".join(f"install -d -o {USER} -g {GROUP} -m 0700 {path}" for path in directories())
    over = "; ".join(f"mount -t tmpfs none {home}" for home in ("/run", "/var/lib", "/var/log"))
    program.write_text(
        "#!/bin/sh\n"
        f"exec unshare --mount sh -c '{over}; {made}; umask 077; "
        "export STATE_DIRECTORY=/var/lib/kipgate; "
        f'exec setpriv --reuid={USER} --regid={GROUP} --clear-groups "$0" "$@"\' '
        f'{gate.binary} "$@"\n'
    )
    program.chmod(0o755)
    return str(program)


def example():
    """The configuration that README.md shows."""
    text = (ROOT / "README.md").read_text()
    return json.loads(re.search(r"```json\n(.*?)```", text, re.DOTALL)[1])


def test_what_the_readme_configures_is_where_the_unit_lets_it_write(kipgate, echo):
    """A socket of `listen` as in README.md's example, an access log: as the unit's user alone."""
    port = net.free_port()
    listen = [f"127.0.0.1:{port}", *(one for one in example()["listen"] if one.startswith("unix:"))]
    assert len(listen) == 2
    gate = kipgate({"a": echo()}, start=False, config={
        "listen": listen, "state_dir": None, "access_log": "/var/log/kipgate/access.log"})
    os.chown(gate.directory, USER, GROUP)
    gate.binary = copy_for_all(gate.directory)
    gate.binary = as_unit(gate)
    with engine_socket.of_group(GROUP):
        gate.start()
        gate.front = ("127.0.0.1", port)
        assert gate.get("/", timeout=30).status == 200


def test_the_unit_runs_what_was_installed(tmp_path):
    """By `cmake --install` as README.md has it; a bare name systemd looks for in these places."""
    build = pathlib.Path(settings.kipgate_bin()).parent
    subprocess.run(["cmake", "--install", str(build)], check=True, capture_output=True,
                   env={**os.environ, "DESTDIR": str(tmp_path)})
    (command,) = settings_of("ExecStart")
    program = pathlib.Path("/usr/local/bin", command.split()[0])
    page = re.search(r"man:(\w+)\((\d)\)", settings_of("Documentation")[0])
    for path in (program, f"/usr/local/share/man/man{page[2]}/{page[1]}.{page[2]}"):
        assert (tmp_path / os.path.relpath(path, "/")).is_file(), path
