# SPDX-License-Identifier: Apache-2.0
"""packaging/install.sh on machines that others use, too: what these have stays.
The difficulty: no test may change its machine's packages, so dpkg and apt are played here."""
import pathlib
import subprocess
import sys

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

# docker.io takes the place of docker-ce, unless nothing may be removed.
APT_GET = """#!{python}
import pathlib, sys
state, words = pathlib.Path("{state}"), sys.argv[1:]
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
        for name in ("bash", "sh", "env", "dirname", "realpath", "sort", "tr", "grep"):
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
