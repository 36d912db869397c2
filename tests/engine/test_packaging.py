# SPDX-License-Identifier: Apache-2.0
"""packaging/install.sh and engine.sh on machines that others use, too: what these have stays.
The difficulty: no test may change its machine's packages, so dpkg and apt are played here."""
import os
import pathlib
import subprocess
import sys
import tempfile

import pytest

PACKAGING = pathlib.Path(__file__).parents[2] / "packaging"
REFUSED = "E: Packages need to be removed but remove is disabled."

# PACKAGE/ARCHITECTURE lines of a file are what is installed.
DPKG_QUERY = """#!{python}
import sys
form, package = sys.argv[-2:]
lines = [line.split("/") for line in open("{state}").read().split()]
found = [arch for name, arch in lines if name == package]
for arch in found:
    text = form.replace("${{db:Status-Status}}", "installed").replace("${{Architecture}}", arch)
    print(text.replace("\\\\n", "\\n"), end="")
sys.exit(0 if found else 1)
"""

# docker.io takes the place of docker-ce, unless nothing may be removed. dpkg wants programs of sbin. A
# new machine has no lists of packages, and is about to fetch them itself.
APT_GET = """#!{python}
import os, pathlib, sys
state, words = pathlib.Path("{state}"), sys.argv[1:]
busy = state.with_name("busy")
if not {{"/usr/sbin", "/sbin"}} <= set(os.environ["PATH"].split(":")):
    sys.exit(print("E: dpkg has no ldconfig", file=sys.stderr) or 100)
if busy.exists() and "update" not in words:
    sys.exit(print("E: Unable to locate package", file=sys.stderr) or 100)
if busy.exists():
    busy.unlink()
    here = os.environ.get("LC_ALL") == "C"
    sys.exit(print(here and "E: Could not get lock" or "E: Sperre", file=sys.stderr) or 100)
had = state.read_text().split()
if "install" in words and "docker-ce/amd64" in had and "docker.io" in words:
    if "--no-remove" in words:
        sys.exit(print("{refused}", file=sys.stderr) or 100)
    had.remove("docker-ce/amd64")
if "install" in words:
    had += [word + "/amd64" for word in words[words.index("install") + 1:] if word[0] != "-"]
state.write_text(" ".join(had))
"""


class Machine:
    """Programs and packages that it has."""

    def __init__(self, directory, installed, programs=()):
        self.state, self.bin = directory / "state", directory / "bin"
        self.state.write_text(" ".join(installed))
        self.bin.mkdir()
        words = {"python": sys.executable, "state": self.state, "refused": REFUSED}
        self._program("dpkg-query", DPKG_QUERY.format(**words))
        self._program("apt-get", APT_GET.format(**words))
        self._program("dpkg", "#!/bin/sh\necho amd64\n")
        self._program("id", "#!/bin/sh\necho 0\n")
        for name in programs:
            self._program(name, "#!/bin/sh\n")
        for name in ("bash", "sh", "env", "dirname", "realpath", "sort", "tr", "grep", "sleep"):
            (self.bin / name).symlink_to(f"/usr/bin/{name}")

    def _program(self, name, text):
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def install(self, *groups):
        """Runs install.sh there."""
        return subprocess.run(
            ["/bin/bash", str(PACKAGING / "install.sh"), *groups], stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60, env={"PATH": str(self.bin)})

    def installed(self):
        """Packages, with their architecture."""
        return set(self.state.read_text().split())


def test_dockers_own_packages_are_an_engine_too(tmp_path):
    """They are not replaced by Debian's; what else is missing is installed."""
    machine = Machine(tmp_path, ["docker-ce/amd64"], ["docker", "dockerd", "containerd"])
    done = machine.install("engine")
    assert done.returncode == 0, done.stderr
    assert {"docker-ce/amd64", "mmdebstrap/amd64"} <= machine.installed()
    assert "docker.io/amd64" not in machine.installed()


def test_nothing_is_removed_for_what_is_missing(tmp_path):
    """Where it could only be had so: one line says what is missing, and why."""
    machine = Machine(tmp_path, ["docker-ce/amd64"], ["docker"])
    done = machine.install("engine")
    assert done.returncode == 1 and "docker-ce/amd64" in machine.installed()
    last = done.stderr.splitlines()[-1]
    assert last.startswith("install.sh: missing: ") and "docker.io" in last and REFUSED in last


def test_a_machine_that_renews_itself_is_waited_for(tmp_path):
    """apt-get's own patience does not reach as far as its lists; and it may speak any language."""
    machine = Machine(tmp_path, [])
    (tmp_path / "busy").touch()
    done = machine.install("engine")
    assert done.returncode == 0 and "docker.io/amd64" in machine.installed(), done.stderr


@pytest.mark.parametrize("has, missing", [("amd64 i386", False), ("i386", True)])
def test_packages_of_other_architectures_are_others(tmp_path, has, missing):
    """Beside the machine's own they are nothing that is missing; alone they are no help."""
    some = Machine(tmp_path, [])
    some.install("build")
    rest = {one for one in some.installed() if not one.startswith("libc6-dev/")}
    some.state.write_text(" ".join(rest | {f"libc6-dev/{arch}" for arch in has.split()}))
    before = some.installed()
    done = some.install("build")
    assert done.returncode == 0 and (some.installed() != before) == missing, done.stderr
    assert bool(done.stderr) == missing


# --- engine.sh ------------------------------------------------------------------------------------


@pytest.fixture
def short_path():
    """A directory whose name leaves room for that of a socket."""
    with tempfile.TemporaryDirectory(prefix="kge") as path:
        yield pathlib.Path(path)


def engine(verb, directory):
    """Runs engine.sh."""
    return subprocess.run([str(PACKAGING / "engine.sh"), verb, str(directory)],
                          capture_output=True, text=True, timeout=60)


def test_an_engine_below_another_directory_of_that_name_goes_on(short_path):
    """/tmp/e is also a part of /var/tmp/e: that one's daemons are not this one's."""
    mine, others = short_path / "e", pathlib.Path(f"{short_path}/var{short_path}/e")
    for directory in (mine, others):
        directory.mkdir(parents=True)
        (directory / "engine.env").write_text("OCTET=none\n")
    daemon = subprocess.Popen(
        ["dockerd", "-c", "import time; time.sleep(60)", "--host", f"unix://{others}/docker.sock"],
        executable=sys.executable)
    try:
        done = engine("stop", mine)
        assert done.returncode == 0 and not mine.exists(), done.stderr
        assert daemon.poll() is None and others.exists()
        assert engine("stop", others).returncode == 0 and daemon.wait(10) < 0
    finally:
        daemon.kill()
        daemon.wait()


def test_an_engine_that_was_killed_as_it_began_is_removed(short_path):
    """Before it had written down anything of itself."""
    directory = short_path / "e"
    directory.mkdir()
    (directory / "engine.env").touch()
    done = engine("stop", directory)
    assert done.returncode == 0 and not os.path.exists(directory), done.stderr


# --- the base image -------------------------------------------------------------------------------

# A pull takes a minute, or is not possible; an image there is none.
TIMEOUT = """#!/bin/sh
[ "$1" != --foreground ] || shift
case "$*" in
*" pull "*) [ "{pulls}" = yes ] && [ "$1" -ge 60 ] ;;
*" import "*) for word; do [ ! -f "$word" ] || cat "$word" >>"{bin}/imported"; done ;;
*) false ;;
esac
"""

MMDEBSTRAP = """#!/bin/sh
for word; do
    case $word in *.new) echo half >"$word" && sleep 0.5 && echo whole >"$word" && break ;; esac
done
echo once >>"{bin}/made"
"""


def played(directory, pulls, **programs):
    """Environment of a machine with these."""
    words = {"timeout": TIMEOUT, "id": "#!/bin/sh\necho 0\n", "apt-config": "#!/bin/sh\n",
             "apt-get": "#!/bin/sh\n", **programs}
    for name, text in words.items():
        (directory / name).write_text(text.format(bin=directory, pulls=pulls))
        (directory / name).chmod(0o755)
    for name in ("bash", "dirname", "realpath", "cat", "mkdir", "mv", "rm", "sed", "sort", "tail",
                 "grep", "flock", "sleep"):
        (directory / name).symlink_to(f"/usr/bin/{name}")
    return {"PATH": str(directory), "KIPGATE_CACHE": str(directory / "cache")}


def base_image(env):
    """Begins to make it."""
    return subprocess.Popen(["/bin/bash", str(PACKAGING / "engine.sh"), "base-image"], env=env,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_slow_line_is_waited_for_where_the_image_cannot_be_made(tmp_path):
    """Without mmdebstrap there is no other way to it."""
    done = base_image(played(tmp_path, pulls="yes"))
    assert done.wait(60) == 0, done.stdout.read()


def test_two_that_make_the_base_image_at_once(tmp_path):
    """It is made once, and both have it whole."""
    env = played(tmp_path, pulls="no", mmdebstrap=MMDEBSTRAP)
    for done in [base_image(env), base_image(env)]:
        assert done.wait(60) == 0, done.stdout.read()
    assert (tmp_path / "made").read_text() == "once\n"
    assert (tmp_path / "imported").read_text() == "whole\nwhole\n"
