"""Free memory under the limits of containers, and blocks that processes share."""

import os
import pickle
import sys
import types

import pytest

from yolojax.data.store import host_memory

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@LINUX
def test_another_file_of_the_same_number_is_not_taken_for_the_memory(tmp_path):
    block = host_memory.SharedBlock(10)
    block.writable()[:] = 7
    assert pickle.loads(pickle.dumps(block)).read().tolist() == [7] * 10
    stored, number = pickle.dumps(block), int(block._path.rsplit("/", 1)[1])
    del block
    (tmp_path / "other").write_bytes(bytes(10))
    with open(tmp_path / "other", "rb") as other:
        same = other.fileno() == number
        os.dup2(other.fileno(), number)
        with pytest.raises(FileNotFoundError, match="is another file now"):
            pickle.loads(stored).read()
    if not same:
        os.close(number)


@pytest.mark.parametrize(
    ("membership", "names", "stat"),
    [
        ("0::/pod/run", ("", "memory.max", "memory.current"), "active_file"),
        (
            "3:cpu:/x\n4:memory,x:/pod/run\n0::/\n",
            ("memory/", "memory.limit_in_bytes", "memory.usage_in_bytes"),
            "total_active_file",
        ),
    ],
)
def test_limits_of_containers_count(tmp_path, monkeypatch, membership, names, stat):
    mount, limit, use = names
    monkeypatch.setattr(host_memory, "MEMBERSHIP", tmp_path / "cgroup")
    monkeypatch.setattr(host_memory, "CONTROL_GROUPS", tmp_path)
    monkeypatch.setattr(
        host_memory.psutil,
        "virtual_memory",
        lambda: types.SimpleNamespace(available=10**9),
    )
    assert host_memory.available() == 10**9  # no such file: no Linux
    (tmp_path / "cgroup").write_text(membership)
    assert host_memory.available() == 10**9

    def group(place, allowed, used, files):
        folder = tmp_path / mount / place
        folder.mkdir(parents=True, exist_ok=True)
        (folder / limit).write_text(f"{allowed}\n")
        (folder / use).write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 1\n{stat} {files}\n")

    group("pod/run", "max" if mount == "" else 2**63 - 4096, 5, 0)
    assert host_memory.available() == 10**9
    group("pod", 1000, 800, 300)  # of the parent; files in memory can be dropped
    assert host_memory.available() == 500
    group("pod/run", 700, 650, 0)
    assert host_memory.available() == 50
    group("pod/run", 700, 900, 0)
    assert host_memory.available() == 0
    # Seen from inside a container the own group is the root.
    (tmp_path / "cgroup").write_text(membership.replace("/pod/run", "/of/the/host"))
    group("", 444, 44, 0)
    assert host_memory.available() == 400
