"""Is this machine ready for a study? `python -m weak_to_strong.cluster.doctor CONFIG`, in seconds.

It looks at the driver, CUDA, torch, vLLM and NCCL, at memory and disk, asks for every model and raw
file of the configuration, and compares the site file with the SLURM cluster. It prints one line for
each check, with the fix where something must be mended, and ends with status 1 if anything must.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from weak_to_strong.cluster.access import access_checks
from weak_to_strong.cluster.assumptions import read_assumptions
from weak_to_strong.cluster.cluster_jobs import ClusterJobs, cost_of_training
from weak_to_strong.cluster.machine_checks import (
    MEND,
    OK,
    REMARK,
    SHARED_BYTES,
    TEMPORARY_BYTES,
    Finding,
    check_cpu_nodes,
    check_cuda,
    check_gpu_nodes,
    check_gpus,
    check_memory,
    check_nccl,
    check_packages,
    check_partition,
    check_space,
    driver_cuda,
    parse_fields,
    parse_gpus,
    parse_lock,
    parse_partition_nodes,
)
from weak_to_strong.cluster.machine_facts import (
    ALL_SECONDS,
    GPU_FIELDS,
    NODE_FORMAT,
    PROJECT,
    ask_command,
    call_all,
    installed_versions,
)
from weak_to_strong.cluster.model_shape import FLOAT32, model_shape
from weak_to_strong.cluster.site_file import EXAMPLE, VARIABLE, Site, read_site
from weak_to_strong.experiment.configuration import ConfigError, load_configuration
from weak_to_strong.experiment.graph import Graph
from weak_to_strong.experiment.yaml_keys import check_keys
from weak_to_strong.jobs.gpus import check_gpu, count_gpus, is_cpu_build, vllm_version
from weak_to_strong.jobs.locks import check_writable
from weak_to_strong.jobs.machine import SHARED_MEMORY

#: Optimiser and weights that a training keeps of each trained weight in a checkpoint, in bytes, and
#: checkpoints that are there at once: a new one is complete before the old one goes.
CHECKPOINT_BYTES, CHECKPOINTS = 3 * FLOAT32, 2


def read_graph(path: Path) -> Graph:
    """The graph of a configuration file.

    Raises:
        ValueError: one line: the file cannot be read, or the configuration is wrong.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror}); name it by CONFIG="
        ) from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: is not YAML ({' '.join(str(error).split())})") from error
    check_keys(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: has no keys; name a configuration by CONFIG=")
    return Graph(load_configuration(content))


def package_findings() -> list[Finding]:
    """Versions of the packages against the lock list of their device."""
    device = "cpu" if is_cpu_build(vllm_version()) else "cuda"
    locked = parse_lock((PROJECT / f"requirements/{device}.txt").read_text(encoding="utf-8"))
    return check_packages(installed_versions(), locked, device)


def gpu_findings(on_cluster: bool) -> list[Finding]:
    """GPUs, their driver, and torch's CUDA and NCCL.

    Args:
        on_cluster: whether SLURM is here, whose login nodes have no GPUs.
    """
    build = vllm_version()
    facts = json.loads(
        ask_command([sys.executable, "-P", "-m", "weak_to_strong.cluster.torch_facts"], ALL_SECONDS)
    )
    if not count_gpus() and not shutil.which("nvidia-smi"):
        if is_cpu_build(build):
            return [Finding("GPUs", OK, f"none; {build} computes on the CPU")]
        if on_cluster:
            fix = "to check a node with GPUs: srun --gpus=1 make doctor"
            return [Finding("GPUs", REMARK, "this node has none", fix)]
        fix = "install NVIDIA's driver, or the packages for a CPU: make setup DEVICE=cpu"
        return [Finding("GPUs", MEND, f"there is no driver, and {build} needs one", fix)]
    query = ["nvidia-smi", f"--query-gpu={GPU_FIELDS}", "--format=csv,noheader,nounits"]
    gpus = parse_gpus(ask_command(query))
    if not gpus:
        return [Finding("GPUs", MEND, "the driver finds none", "nvidia-smi says more")]
    findings = check_gpus(gpus, build)
    if is_cpu_build(build):
        return findings
    try:
        check_gpu()
    except ValueError as error:
        words, _, fix = str(error).partition("; ")
        return [*findings, Finding("GPUs", MEND, words, fix)]
    supported = driver_cuda(ask_command(["nvidia-smi"]))
    findings.append(
        check_cuda(supported, facts["cuda"], facts["architectures"], gpus[0].capability)
    )
    if facts["failed"] or not facts["gpus"]:
        words = facts["failed"] or "torch can use none of the GPUs"
        fix = "see the line CUDA; restart the machine if the driver was updated"
        findings.append(Finding("torch", MEND, words, fix))
    versions = installed_versions()
    wanted = next((versions[name] for name in versions if name.startswith("nvidia-nccl-cu")), None)
    return [*findings, check_nccl(wanted, facts["nccl"], facts["gpus"])]


def base_sizes(graph: Graph) -> dict[str, float]:
    """Bytes in 16 bits of the base models of the chains whose size is known, by name."""
    known, sizes = read_assumptions().models, {}
    for name in {name for chain in graph.chains for name in (chain.weak, chain.strong)}:
        entry = graph.config["models"][name]
        folder = entry.get("path") or graph.base_manifest(name).removesuffix(".json")
        try:
            sizes[name] = float(model_shape(entry, folder, known).size)
        except FileNotFoundError:
            continue
    return sizes


def results_bytes(graph: Graph) -> float:
    """Bytes that a study will write: models to download, trained models and checkpoints.

    What is there already, and models of unknown size, do not count.
    """
    known, sizes = read_assumptions().models, base_sizes(graph)
    total = sum(
        size
        for name, size in sizes.items()
        if "path" not in graph.config["models"][name]
        and not Path(graph.base_manifest(name)).is_file()
    )
    checkpoint = 0.0
    for node in graph.trained_nodes():
        base = graph.base_of(node)
        if base not in sizes or Path(graph.manifest(node)).is_file():
            continue
        entry = graph.config["models"][base]
        folder = entry.get("path") or graph.base_manifest(base).removesuffix(".json")
        cost = cost_of_training(graph, node, model_shape(entry, folder, known))
        total += cost.saved_bytes
        checkpoint = max(checkpoint, CHECKPOINT_BYTES * cost.trained_weights)
    return total + CHECKPOINTS * checkpoint


def space_finding(name: str, folder: Path, needed: float, fix: str) -> Finding:
    """Whether a folder, which need not be there yet, can be written to and has room."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    try:
        check_writable(folder)
    except ValueError:
        return check_space(name, str(folder), free, needed, fix, writable=False)
    return check_space(name, str(folder), free, needed, fix)


def results_finding(graph: Graph | None) -> Finding:
    """Whether the folder of the results has room for the study."""
    folder = Path(graph.paths.root) if graph else Path("results")
    needed = results_bytes(graph) if graph else 0.0
    fix = "make room, or link `results` to a larger disk"
    return space_finding("results", folder, needed, fix)


def memory_finding(graph: Graph | None) -> Finding:
    """Memory of this machine against what its GPUs' processes take."""
    import psutil

    largest = max(base_sizes(graph).values(), default=0.0) if graph else 0.0
    return check_memory(psutil.virtual_memory().available, largest, max(1, count_gpus()))


def cache_folder(site: Site | None) -> Path:
    """Where libraries keep their caches: the site's scratch folder, or their own default."""
    if site and site.scratch:
        return Path(site.scratch)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())


def partition_findings(site: Site, key: str) -> list[Finding]:
    """A partition of the site file, its limits and its nodes.

    Args:
        site: the cluster.
        key: "gpu" or "cpu".
    """
    name = site.gpu_partition if key == "gpu" else site.cpu_partition
    try:
        shown = ask_command(["scontrol", "show", "partition", name, "--oneliner"])
    except ValueError as error:
        known = ask_command(["sinfo", "--noheader", "--format=%R"]).split()
        if name in known or not known:
            return [Finding(f"SLURM {key}", MEND, str(error), "call it by hand to see more")]
        fix = f"set {key}.partition to one of {', '.join(dict.fromkeys(known))}"
        return [Finding(f"SLURM {key}", MEND, f"there is no partition {name}", fix)]
    runtime = site.max_runtime if key == "gpu" else site.cpu_runtime
    nodes_of_job = site.max_nodes if key == "gpu" else 1
    findings = check_partition(name, key, parse_fields(shown), runtime, nodes_of_job)
    command = ["sinfo", "--noheader", "--Node", f"--partition={name}", f"--format={NODE_FORMAT}"]
    nodes = parse_partition_nodes(ask_command(command))
    more = check_gpu_nodes(nodes, site) if key == "gpu" else [check_cpu_nodes(nodes, site)]
    return [*findings, *more]


def account_finding(site: Site) -> Finding:
    """Whether the user may charge the site's account."""
    title, user = "SLURM account", os.environ.get("USER", "")
    command = ["sacctmgr", "--noheader", "--parsable2", "show", "assoc", f"user={user}"]
    try:
        accounts = set(ask_command([*command, "format=account"]).split())
    except ValueError as error:
        return Finding(title, REMARK, f"is not known: {error}")
    if site.account and site.account not in accounts:
        known = ", ".join(sorted(accounts)) or "none"
        fix = f"set `account` in the site file to one of yours ({known}), or ask for it"
        return Finding(title, MEND, f"{site.account} is not yours", fix)
    return Finding(title, OK, site.account or "your default account")


def plan_finding(graph: Graph, site: Site) -> Finding:
    """Whether all GPU jobs of the configuration fit on the site's GPUs."""
    try:
        plan = ClusterJobs(graph, site, read_assumptions(), {}).plan()
    except ValueError as error:
        words, _, fix = str(error).partition("; ")
        return Finding("GPU jobs", MEND, words, fix)
    unknown = sum("?" in line for line in plan.splitlines())
    if unknown:
        fix = "give `parameters` of each model to have all of them checked"
        return Finding("GPU jobs", REMARK, f"{unknown} kinds of unknown size", fix)
    return Finding("GPU jobs", OK, "all fit on the GPUs of the site file")


def checks_of(config: str) -> dict[str, Callable[[], Finding | list[Finding]]]:
    """All checks by their name, for a configuration file."""
    on_cluster = shutil.which("sinfo") is not None
    checks: dict[str, Callable[[], Any]] = {}
    graph = site = None
    reading = call_all({"configuration": partial(read_graph, Path(config))}, ALL_SECONDS)
    if isinstance(reading["configuration"], Graph):
        graph = reading["configuration"]
        words = f"{config}: {len(graph.trained_nodes())} trainings, {len(graph.rounds())} rounds"
        checks["configuration"] = partial(Finding, "configuration", OK, words)
    else:
        checks["configuration"] = partial(_raise, reading["configuration"])
    checks["packages"] = package_findings
    checks["GPUs"] = partial(gpu_findings, on_cluster)
    if not on_cluster or count_gpus():  # no job runs on a login node
        checks["memory"] = partial(memory_finding, graph)
    site_file = os.environ.get(VARIABLE) or EXAMPLE
    if on_cluster:
        try:
            site = read_site(site_file)
        except ValueError as error:
            checks["site file"] = partial(_raise, error)
    checks["results"] = partial(results_finding, graph)
    temporary = Path(os.environ.get("TMPDIR") or tempfile.gettempdir())
    fix = "make room, or name another folder with TMPDIR"
    checks["temporary"] = partial(space_finding, "temporary", temporary, TEMPORARY_BYTES, fix)
    fix = "make room, or name another folder with XDG_CACHE_HOME, or `scratch` in the site file"
    cache = cache_folder(site)
    checks["cache"] = partial(space_finding, "cache", cache, TEMPORARY_BYTES, fix)
    if SHARED_MEMORY.exists():
        fix = "give the container more: docker run --shm-size=8g"
        shared = partial(space_finding, "shared memory", SHARED_MEMORY, SHARED_BYTES, fix)
        checks["shared memory"] = shared
    if graph:
        checks |= access_checks(graph)
    if not on_cluster:
        words = "sinfo is not here, so no cluster is checked"
        checks["SLURM"] = partial(Finding, "SLURM", OK, words)
    elif site:
        checks["SLURM gpu"] = partial(partition_findings, site, "gpu")
        checks["SLURM cpu"] = partial(partition_findings, site, "cpu")
        checks["SLURM account"] = partial(account_finding, site)
        if graph:
            checks["GPU jobs"] = partial(plan_finding, graph, site)
    return checks


def _raise(error: Exception) -> Finding:
    raise error


def examine(checks: Mapping[str, Callable[[], Any]], seconds: float = ALL_SECONDS) -> list[Finding]:
    """Findings of all checks, in their order. A check that fails or hangs is a finding too."""
    findings: list[Finding] = []
    for name, result in call_all(checks, seconds).items():
        if isinstance(result, Finding):
            findings.append(result)
        elif isinstance(result, list):
            findings += result
        elif isinstance(result, ValueError | TimeoutError):
            words, _, fix = str(result).partition("; ")
            findings.append(Finding(name, MEND, words, fix or "see what it waits for by hand"))
        else:
            words = f"{type(result).__name__}: {' '.join(str(result).split())[:200]}"
            findings.append(Finding(name, MEND, words, "this is a fault of the check: report it"))
    return findings


def main(argv: Iterable[str]) -> int:
    """Print the findings; 1 if something must be mended."""
    parser = argparse.ArgumentParser(
        prog="python -m weak_to_strong.cluster.doctor",
        description="Look whether this machine is ready for a study, and say what to mend.",
    )
    parser.add_argument("config", nargs="?", default="config/config.yaml", metavar="CONFIG")
    findings = examine(checks_of(parser.parse_args(list(argv)).config))
    width = max(len(finding.name) for finding in findings)
    print(*(finding.line(width) for finding in findings), sep="\n")
    wrong = sum(finding.state == MEND for finding in findings)
    print(f"\n{wrong} of {len(findings)} must be mended" if wrong else "\nReady.")
    return int(bool(wrong))


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    # A thread may wait for a dead disk or server.
    os._exit(status)
