"""Kernels that DeepSpeed compiles at its first use, while other trainings may do the same.

torch guards a build by the existence of a file. A build that is killed leaves the file, and every
later training waits for ever. Here the guard is a lock of the kernel, which ends with its process.
Such locks may not reach other machines, so each machine has a folder of builds. Kernels are also
made for the processor on which they are compiled.
"""

from __future__ import annotations

import fcntl
import os
import platform
import sys
from pathlib import Path

from weak_to_strong.jobs.locks import open_lock
from weak_to_strong.jobs.logs import logger

#: Variable with the folder of torch's builds.
BUILD_ROOT = "TORCH_EXTENSIONS_DIR"


class BuildLock:
    """Stands for `torch.utils.file_baton.FileBaton`, with the methods that torch calls.

    Each process builds in its turn. Where an earlier one has built, nothing is left to compile.

    Args:
        lock_file_path: the file. It stays.
        wait_seconds, warn_after_seconds: torch gives them; not used.
    """

    def __init__(
        self,
        lock_file_path: str,
        wait_seconds: float = 0.1,
        warn_after_seconds: float | None = None,
    ) -> None:
        self._path = Path(lock_file_path)

    def try_acquire(self) -> bool:
        """Take the lock; wait while another process compiles. Always true.

        Raises:
            ValueError: in the place of the lock is a link, or no plain file.
        """
        self._file = open_lock(self._path)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("%s: another process compiles this; waiting for it", self._path.parent)
            fcntl.flock(self._file, fcntl.LOCK_EX)
        except OSError:
            logger.warning("%s: cannot be locked on this file system", self._path)
        return True

    def release(self) -> None:
        """Give the lock back."""
        self._file.close()


def guard_builds() -> None:
    """Let torch compile in a folder of this machine and Python, guarded by `BuildLock`."""
    import torch
    from torch.utils import cpp_extension

    root = os.environ.get(BUILD_ROOT) or cpp_extension.get_default_build_root()
    versions = f"{sys.implementation.cache_tag}-torch-{torch.__version__}"
    os.environ[BUILD_ROOT] = str(Path(root, f"{platform.node()}-{versions}"))
    cpp_extension.FileBaton = BuildLock
