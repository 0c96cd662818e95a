"""What torch says of itself and of the GPUs, as one line of JSON.

`python -m weak_to_strong.cluster.torch_facts` is a process of its own, because a driver may hang.
"""

from __future__ import annotations

import json
from typing import Any


def read_torch_facts() -> dict[str, Any]:
    """Facts of the installed torch.

    Returns:
        version, cuda (None in a build for CPUs), architectures that it has code for, nccl (None
        where it has none), gpus (number that it can use), and failed: the first error of a product
        of two matrices on each of them, or None.
    """
    import torch

    available = torch.cuda.is_available()
    nccl = torch.distributed.is_available() and torch.distributed.is_nccl_available()
    failed = None
    for number in range(torch.cuda.device_count() if available else 0):
        try:
            ones = torch.ones(64, 64, device=f"cuda:{number}")
            if (ones @ ones)[0, 0].item() != 64:
                failed = failed or f"GPU {number} computes a wrong product"
        except Exception as error:  # whatever a driver or a library raises
            failed = failed or f"GPU {number}: {' '.join(str(error).split())[:200]}"
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "architectures": torch.cuda.get_arch_list(),
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if nccl else None,
        "gpus": torch.cuda.device_count() if available else 0,
        "failed": failed,
    }


if __name__ == "__main__":
    print(json.dumps(read_torch_facts()))
