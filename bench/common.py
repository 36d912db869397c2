# SPDX-License-Identifier: Apache-2.0
"""What the benches share: the program, an engine, images of C workers, medians, tables, marks."""
import contextlib
import dataclasses
import io
import math
import os
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from harness.engine import Engine  # noqa: E402  (needs the path above)
from harness.witness import client  # noqa: E402

BACKEND_IMAGE = "kipgate-bench-backend:local"
BULK_IMAGE = "kipgate-bench-bulk:local"
ECHO_IMAGE = "kipgate-bench-echo:local"


def program():
    """The kipgate to measure: KIPGATE_BIN, or the usual places of a build."""
    places = [os.environ.get("KIPGATE_BIN"), ROOT / "build/gcc/kipgate", ROOT / "build/kipgate"]
    for place in places:
        if place and pathlib.Path(place).is_file():
            return str(place)
    sys.exit("no kipgate to measure: set KIPGATE_BIN or build it in build/")


def need(*programs):
    """Ends with words when something is not installed."""
    missing = [name for name in programs if not shutil.which(name)]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}")


@contextlib.contextmanager
def engine():
    """Address of DOCKER_HOST's engine, or of one of our own that ends with the bench, also where
    that is ended by a signal."""
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    if os.environ.get("DOCKER_HOST"):
        yield os.environ["DOCKER_HOST"]
        return
    need("dockerd", "containerd", "ip")
    directory = tempfile.mkdtemp(prefix="kgb")
    own = Engine(directory)
    try:
        yield own.start().host
    finally:
        own.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _import(host, binary, image, *changes):
    """Makes an image FROM scratch of one static program."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.add(binary, binary.name)
    client(host).api.import_image_from_data(
        data.getvalue(),
        *image.split(":"),
        changes=[f'ENTRYPOINT ["/{binary.name}"]', "EXPOSE 8080", "ENV PORT=8080", *changes],
    )


def _compiler():
    """A C compiler, or the end."""
    found = next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)
    return found or sys.exit("not installed: a C compiler")


def compile_c(name, binary, *options):
    """Compiles a program of the bench from its one source file."""
    source = str(ROOT / "bench" / name)
    subprocess.run([_compiler(), "-O2", *options, "-o", str(binary), source], check=True)


def build_backend(host):
    """Compiles backend.c and makes an image of it."""
    with tempfile.TemporaryDirectory() as directory:
        binary = pathlib.Path(directory) / "backend"
        compile_c("backend.c", binary, "-static")
        _import(host, binary, BACKEND_IMAGE)


def build_bulk(host):
    """Compiles bulk.c and makes an image of it."""
    with tempfile.TemporaryDirectory() as directory:
        binary = pathlib.Path(directory) / "bulk"
        compile_c("bulk.c", binary, "-static", "-pthread")
        _import(host, binary, BULK_IMAGE)


def build_echo(host):
    """Compiles the echo worker and makes an image of it."""
    need("make")
    with tempfile.TemporaryDirectory() as directory:
        binary = pathlib.Path(directory) / "echo"
        worker = str(ROOT / "examples/echo-worker")
        command = ["make", "-s", "-C", worker, f"OUT={binary}", f"CC={_compiler()}"]
        subprocess.run(command, check=True)
        _import(host, binary, ECHO_IMAGE)


def percentile(values, share):
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values):
    """The median."""
    return statistics.median(values)


def table(header, rows):
    """Aligned columns; the first to the left, figures to the right."""
    cells = [header] + [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths))
        )
        for row in cells
    ]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(lines)


@dataclasses.dataclass
class Mark:
    """A figure beside what it should be; None: not available, and `note` says why."""

    name: str
    figure: float
    limit: float
    at_least: bool = False
    note: str = ""

    def row(self):
        """Its line of the table."""
        limit = f"{'>=' if self.at_least else '<='} {self.limit:g}"
        if self.figure is None:
            return [self.name, "-", limit, f"not available: {self.note}"]
        met = self.figure >= self.limit if self.at_least else self.figure <= self.limit
        return [self.name, f"{self.figure:.2f}", limit, "met" if met else "MISSED"]


def marks_table(marks):
    """What was to be reached, and what was."""
    return table(["mark", "figure", "wanted", ""], [mark.row() for mark in marks])


def version(*command):
    """The first line that a program says of its version."""
    need(command[0])
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return next((line.strip() for line in done.stdout.splitlines() if line.strip()), "?")


def preamble(*versions):
    """How this was run, so that figures can be compared."""
    print("command:  ", " ".join(sys.argv))
    print("machine:  ", platform.release(), platform.machine(), f"{os.cpu_count()} cores")
    for line in versions:
        print("version:  ", line)
    print(flush=True)
