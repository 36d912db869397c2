# SPDX-License-Identifier: Apache-2.0
"""A worker that looks around: it reaches neither other workers nor the admin API, the front's or
control's sockets. The difficulty: only an engine with a firewall separates workers, and that
firewall must not be this machine's; abuse_wall.py says how."""
import json
import pathlib
import subprocess
import sys

import pytest

LOOK = pathlib.Path(__file__).with_name("abuse_wall.py")


@pytest.fixture(scope="module")
def found():
    """All that was found."""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-W", "ignore", str(LOOK)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_workers_are_served_and_the_scan_sees_what_is_open(found):
    """The front reaches all; two containers of an ordinary network of this engine reach each
    other."""
    assert [found[name] for name in ("one", "two", "app", "shop")] == [200] * 4
    assert found["itself"] == "open" and found["control"] == "open"


def test_workers_do_not_reach_each_other(found):
    """On the network of all, both ways, on open ports and others; and that is what was asked for of
    it, and not of the two groups'."""
    assert found["networks"] == ["false", "true", "true"]
    assert set(found["neighbour"].values()) == {"silent"}, found["neighbour"]
    assert set(found["back"].values()) == {"silent"}, found["back"]


def test_workers_reach_what_their_services_need(found):
    """By its name, with an answer; and the other way, as on any network."""
    assert found["need"] == found["other_need"] == "200 true"
    assert set(found["group"].values()) == {"open"}, found["group"]


def test_groups_are_walled_off(found):
    """From the network of all, from each other and to all others: by address nothing answers, and
    their names are known to nobody else."""
    for name in ("into_groups", "into_other_group", "into_first_group", "out_of_groups"):
        assert len(found[name]) >= 2 and set(found[name].values()) == {"silent"}, found
    for name in ("name_outside", "name_in_other_group"):
        assert found[name] and not found[name].startswith("200"), found


def test_front_and_admin_on_loopback_are_out_of_reach(found):
    """By the network's gateway, which is this machine, or by the worker's own loopback."""
    assert len(found["host"]) == 4
    assert set(found["host"].values()) == {"ECONNREFUSED"}, found["host"]


def test_no_socket_of_ours_is_in_a_worker(found):
    """Neither the engine's nor control's nor the front's."""
    assert not [name for name in found["files"] if "sock" in name or "kipgate" in name], found
