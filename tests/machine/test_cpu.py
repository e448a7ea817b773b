"""How many cores a process may keep busy: affinity, and control groups as folders."""

from __future__ import annotations

import os

import pytest

from edge_ssd.machine import cpu
from edge_ssd.machine.cpu import usable_cores


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A system of 16 cores; a function of the process's groups and of what their files hold."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(cpu, "_PROC_CGROUP", tmp_path / "self_cgroup")
    monkeypatch.setattr(cpu, "_CGROUPS", tmp_path / "groups")

    def write(groups, files):
        (tmp_path / "self_cgroup").write_text(groups)
        for name, text in files.items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


def test_all_cores_where_nothing_limits_them(system):
    assert usable_cores() == 16  # not even the list of groups
    system("0::/\n", {"cpu.max": "max 100000\n"})
    assert usable_cores() == 16
    system("4:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"})
    assert usable_cores() == 16


@pytest.mark.parametrize(("quota", "cores"), [(400000, 4), (250000, 2), (50000, 1), (9900000, 16)])
def test_a_container_with_a_share_of_the_time(system, quota, cores):
    system("0::/\n", {"cpu.max": f"{quota} 100000\n"})
    assert usable_cores() == cores


def test_the_tightest_of_the_groups_holds(system):
    files = {
        "robot.slice/cpu.max": "300000 100000\n",
        "robot.slice/camera.service/cpu.max": "800000 100000\n",
    }
    system("0::/robot.slice/camera.service\n", files)
    assert usable_cores() == 3


def test_version_1_and_a_path_from_outside_the_container(system):
    files = {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}
    system("9:name=systemd:/\n3:cpuset:/x\n1:cpu,cpuacct:/docker/0123\n0::/\n", files)
    assert usable_cores() == 2
