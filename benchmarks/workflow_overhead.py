"""What the workflow itself costs: its plans, and SLURM jobs around work that takes no time.

    python benchmarks/workflow_overhead.py plans [--repetitions 3]
    python benchmarks/workflow_overhead.py jobs [--jobs 8]

`plans` writes benchmarks/workflow_plans.csv: for each of the paper's experiments the number of
jobs, how many of them go to SLURM, the time of a Python process that only reads the configuration,
completes it and checks it against the schema, and the time of a dry run; for the largest also of a
second run, which has nothing to do. For that one its results are made up as files of two bytes and
marked as up to date.

`jobs` writes benchmarks/slurm_jobs.csv. It needs a SLURM cluster with accounting, such as that of
`python tests/slurm/cluster.py start`, and a current folder that all nodes see. It measures jobs
that write one empty file each: some that are independent, one alone, and a chain of three. Each
once in a Snakefile of that rule only, and once with this workflow's rules beside it, which each job
has to read. The executor's first look at a job's state comes after 2 s.
"""

import argparse
import csv
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml
from measuring import ROOT

from weak_to_strong.cluster.slurm_costs import read_allocations

SOURCES = ("Snakefile", "rules", "scripts", "config", "profiles", "envs", "resources")
EXPERIMENTS = ("gsm8k", "math", "olympicarena", "all")
#: Reads and checks the configuration that it is given, and no more.
READ = """
import sys, yaml
from weak_to_strong.experiment.configuration import load_configuration
with open(sys.argv[1], encoding="utf-8") as file:
    load_configuration(yaml.safe_load(file))
"""
#: The experiment whose second run is measured.
LARGEST = "all"
TRIVIAL = """
rule trivial:
    input:
        lambda wildcards: f"trivial/{int(wildcards.n) - 1}" if int(wildcards.n) % 100 else [],
    output:
        "trivial/{n}",
    shell:
        "touch {output}"
"""
#: Targets of the measured runs: a file needs the one before it, but for full hundreds.
RUNS = {"alone": ["100"], "chain of 3": ["202"]}


def timed(*arguments: str, folder: Path) -> tuple[float, float, str]:
    """Run Snakemake; its wall seconds, CPU seconds (children included) and output."""
    return timed_python("-m", "snakemake", *arguments, folder=folder)


def timed_python(*arguments: str, folder: Path) -> tuple[float, float, str]:
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    completed = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "scripts")},
        capture_output=True,
        text=True,
    )
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if completed.returncode:
        sys.exit(completed.stdout[-2000:] + completed.stderr[-2000:])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, completed.stdout + completed.stderr


def median_time(
    repetitions: int, *arguments: str, folder: Path, run: Callable = timed
) -> tuple[float, float, str]:
    """Medians of `run`, and the last output."""
    runs = [run(*arguments, folder=folder) for _ in range(repetitions)]
    return (
        round(statistics.median(wall for wall, _, _ in runs), 2),
        round(statistics.median(cpu for _, cpu, _ in runs), 2),
        runs[-1][2],
    )


def copy_project(folder: Path) -> None:
    for name in SOURCES:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)


def local_rules() -> set[str]:
    """Names of the rules that Snakemake runs itself on every executor."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("rules/*.smk"))
    text += "\n" + (ROOT / "Snakefile").read_text(encoding="utf-8")
    _, *parts = re.split(r"^rule (\w+):$", text, flags=re.M)
    rules = dict(zip(parts[::2], parts[1::2], strict=True))
    return {name for name, body in rules.items() if "\n    localrule: True\n" in body}


def job_counts(output: str) -> dict[str, int]:
    """Jobs by rule in the table that a dry run prints."""
    table = re.search(r"^Job stats:\n.*?\n-+ +-+\n(.*?)^total ", output, re.M | re.S)
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table[1], re.M)}


def finish(config: Path, folder: Path) -> None:
    """Make all results of an experiment up, and mark them as up to date."""
    _, _, summary = timed("--summary", "--configfile", str(config), folder=folder)
    for line in summary.splitlines():
        name, *_ = line.split("\t")
        if not name.startswith("results/"):
            continue
        path = folder / name
        if path.name == "model":
            path = path / "adapter_model.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    timed("--touch", "--forceall", "--cores", "2", "--configfile", str(config), folder=folder)


def pinned(content):
    """A configuration whose missing digests and commits, enough for a plan, are made up."""
    if isinstance(content, dict):
        digits = {"sha256": 64, "revision": 40}
        return {
            key: "0" * digits[key] if key in digits and value is None else pinned(value)
            for key, value in content.items()
        }
    return [pinned(value) for value in content] if isinstance(content, list) else content


def measure_plans(repetitions: int) -> list[dict]:
    local = local_rules()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_project(folder)
        for experiment in EXPERIMENTS:
            config = folder / f"config/paper/{experiment}.yaml"
            content = yaml.safe_load(config.read_text(encoding="utf-8"))
            config.write_text(yaml.safe_dump(pinned(content), sort_keys=False), encoding="utf-8")
            read = ("-c", READ, str(config))
            reading, _, _ = median_time(repetitions, *read, folder=folder, run=timed_python)
            given = ("--configfile", str(config))
            wall, cpu, output = median_time(repetitions, "--dry-run", *given, folder=folder)
            counts = job_counts(output)
            row = {
                "experiment": experiment,
                "jobs": sum(counts.values()),
                "slurm_jobs": sum(n for rule, n in counts.items() if rule not in local),
                "configuration_seconds": reading,
                "dry_run_seconds": wall,
                "dry_run_cpu_seconds": cpu,
                "no_op_seconds": None,
                "no_op_cpu_seconds": None,
            }
            if experiment == LARGEST:
                finish(config, folder)
                wall, cpu, output = median_time(repetitions, "--cores", "2", *given, folder=folder)
                if "Nothing to be done" not in output:
                    sys.exit(output[-2000:])
                row |= {"no_op_seconds": wall, "no_op_cpu_seconds": cpu}
            rows.append(row)
            print(row, flush=True)
    return rows


def measure_jobs(count: int) -> list[dict]:
    runs = {f"{count} independent": [str(100 * n) for n in range(3, 3 + count)], **RUNS}
    rows = []
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        copy_project(folder)
        beside = 'include: "Snakefile"\n'
        for rules in ("the rule alone", "beside this workflow"):
            text = (beside if rules.startswith("beside") else "") + TRIVIAL
            (folder / "trivial.smk").write_text(text, encoding="utf-8")
            for label, targets in runs.items():
                shutil.rmtree(folder / "trivial", ignore_errors=True)
                wall, cpu, output = timed(
                    *("--snakefile", "trivial.smk", "--executor", "slurm", "--jobs", "50"),
                    *("--workflow-profile", "none", "--slurm-status-command", "squeue"),
                    *("--slurm-init-seconds-before-status-checks", "2"),
                    *("--default-resources", "mem_mb=1000", "runtime=5", "--"),
                    *(f"trivial/{target}" for target in targets),
                    folder=folder,
                )
                run = re.search(r"^SLURM run ID: (\S+)$", output, re.M)[1]
                jobs = read_allocations([run], time.strftime("%Y-%m-%d"))
                rows.append(
                    {
                        "rules": rules,
                        "run": label,
                        "jobs": len(jobs),
                        "run_seconds": round(wall, 1),
                        "submitter_cpu_seconds": round(cpu, 1),
                        "allocated_seconds_a_job": jobs["wall_seconds"].median(),
                        "cpu_seconds_a_job": round(jobs["cpu_seconds"].median(), 1),
                        "peak_memory_mb_a_job": round(jobs["peak_memory_mb"].max() or 0),
                    }
                )
                print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("plans", "jobs"))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=8)
    arguments = parser.parse_args()
    if arguments.what == "plans":
        rows, name = measure_plans(arguments.repetitions), "workflow_plans.csv"
    else:
        rows, name = measure_jobs(arguments.jobs), "slurm_jobs.csv"
    with (Path(__file__).parent / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
