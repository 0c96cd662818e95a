"""How the processes of one training find each other, so that no stranger can join them.

torch's own rendezvous (`env://`) opens a TCP store on all interfaces. Whoever connects to it can
read and write its keys, and torch unpickles some of them.

- On one machine the store is a file that only the user can open (`torch.distributed.FileStore`).
- On several nodes torch has no store that asks for a password. The store then listens only on the
  interface through which the first node reaches the second, on a port that the system chooses. The
  address goes through a file on the disk that the nodes share. Who can send packets to that
  interface can still reach the store: docs/security.md says what a cluster should do about it.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

from weak_to_strong.jobs.allocation import own_address

#: Variable with the file of the store, on one machine.
STORE_FILE = "W2S_STORE_FILE"
#: Variables with the file of the store's address, and the name of another node, on several nodes.
ADDRESS_FILE, OTHER_NODE = "W2S_ADDRESS_FILE", "W2S_OTHER_NODE"
#: How long (seconds) a process waits for the address: the first one may still be importing.
WAIT_SECONDS = 600.0
#: A socket that the store listens on must stay open as long as the store.
_open_sockets: list[socket.socket] = []


def join_processes(backend: str) -> None:
    """Join the other processes of this training; nothing in a process that runs alone.

    Args:
        backend: "nccl" on GPUs, else "gloo".

    Raises:
        TimeoutError: the first process has not said where it is; names the file.
    """
    if STORE_FILE not in os.environ and ADDRESS_FILE not in os.environ:
        return
    import torch

    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if file := os.environ.get(STORE_FILE):
        store: Any = torch.distributed.FileStore(file, size)
    elif rank == 0:
        store = _open_store(Path(os.environ[ADDRESS_FILE]), os.environ[OTHER_NODE], size)
    else:
        host, port = _read_address(Path(os.environ[ADDRESS_FILE]))
        store = torch.distributed.TCPStore(host, port, size, is_master=False)
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=size)


def _open_store(address_file: Path, other_node: str, size: int) -> Any:
    """The store of the first process; its address is left in a file for the others."""
    import torch

    listening = socket.socket()
    listening.bind((own_address(other_node), 0))
    listening.listen()
    _open_sockets.append(listening)
    host, port = listening.getsockname()
    store = torch.distributed.TCPStore(
        host,
        port,
        size,
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=listening.fileno(),
    )
    part = address_file.with_suffix(".part")
    part.write_text(f"{host} {port}", encoding="utf-8")
    part.replace(address_file)
    return store


def _read_address(address_file: Path) -> tuple[str, int]:
    """The address that the first process has left.

    Raises:
        TimeoutError: it has left none.
    """
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        try:
            host, port = address_file.read_text(encoding="utf-8").split()
            return host, int(port)
        except FileNotFoundError:
            time.sleep(0.2)
    raise TimeoutError(f"{address_file}: the first training process has not left its address there")
