# SPDX-License-Identifier: Apache-2.0
"""packaging/kipgate.service: it is valid, it exposes no more than it must, and Kipgate can live
with what it forbids. The difficulty: there is no systemd here to start it, so the system calls of a
run as an ordinary user are held against the unit's list."""
import os
import pathlib
import re
import subprocess

from harness import settings

UNIT = pathlib.Path(__file__).parents[2] / "packaging/kipgate.service"
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
    text = UNIT.read_text().replace("/usr/bin/kipgate", os.path.abspath(settings.kipgate_bin()))
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


def traced(directory):
    """A program that runs Kipgate with all its system calls written down."""
    program = directory / "kipgate"
    program.write_text(
        "#!/bin/sh\n"
        f"exec strace -D -f -qq -s 0 -o {directory}/calls {os.path.abspath(settings.kipgate_bin())}"
        ' "$@"\n'
    )
    program.chmod(0o755)
    return str(program)


def test_every_call_is_one_that_the_unit_allows(kipgate, echo):
    """Start, cold requests, a reload, a reap, the end: as an ordinary user, as the unit does."""
    engine = settings.docker_host().removeprefix("unix://")
    before = os.stat(engine)
    os.chown(engine, before.st_uid, GROUP)
    try:
        gate = kipgate({"a": echo(idle_timeout="200ms")}, start=False, user=(USER, GROUP))
        gate.binary = traced(gate.directory)
        gate.start()
        assert gate.get("/", timeout=30).status == 200
        assert gate.reload(lambda config: config["services"]["a"].update(queue=7)).status == 200
        gate.witness.wait_none(30)
        assert gate.get("/", timeout=30).status == 200
        gate.stop()
        lines = (gate.directory / "calls").read_text(errors="replace").split("\n")
    finally:
        os.chown(engine, before.st_uid, before.st_gid)
    used = {found[1] for line in lines if (found := re.match(r"\d+ +(\w+)\(", line))}
    assert {"seccomp", "capset", "epoll_wait", "execve"} <= used, sorted(used)
    assert used - allowed() <= {"unshare"}, "the unit's capability makes a namespace needless"
    families = {found[1] for line in lines if (found := re.search(r" socket\((AF_\w+)", line))}
    assert families == set(settings_of("RestrictAddressFamilies")[0].split()) - {"AF_INET6"}
