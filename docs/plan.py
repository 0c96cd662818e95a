"""Write what the paper's experiments would take: docs/plan.csv, and the tables of docs/plan.md.

    PYTHONPATH=scripts python docs/plan.py

A dry run of each config/paper/*.yaml counts the jobs. scripts/weak_to_strong/cluster/estimates.py
computes the rest from resources/plan_assumptions.yaml. docs/results/plan/gpu_jobs.csv has a row for
each training and generation round of config/paper/all.yaml, on the GPUs of the SLURM profile.
"""

import csv
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from update import insert_files

from weak_to_strong.cluster.assumptions import ASSUMPTIONS_FILE, read_assumptions
from weak_to_strong.cluster.cluster_jobs import ClusterJobs, cost_of_training
from weak_to_strong.cluster.estimates import Estimator, JobEstimate
from weak_to_strong.cluster.generation_cost import generation_memory
from weak_to_strong.cluster.gpu_needs import Needs
from weak_to_strong.cluster.model_shape import Shape
from weak_to_strong.cluster.site_file import read_site
from weak_to_strong.cluster.training_cost import TrainingCost
from weak_to_strong.experiment.configuration import load_configuration
from weak_to_strong.experiment.graph import Graph
from weak_to_strong.experiment.nodes import Node, Round
from weak_to_strong.training.settings import PROJECTIONS

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ("gsm8k", "math", "olympicarena", "all")
PLAN_FILE = ROOT / "docs/plan.csv"
#: Folder of the tables of docs/plan.md.
FOLDER = ROOT / "docs/results/plan"
JOBS_FILE = FOLDER / "jobs.csv"
ROUNDS_FILE = FOLDER / "rounds.csv"
GPU_JOBS_FILE = FOLDER / "gpu_jobs.csv"
SITE_FILE = ROOT / "profiles/slurm/site.yaml"
MEMORY_FILE = FOLDER / "memory.csv"

#: Columns of plan.csv, with their heading and number format in plan.md.
COLUMNS = {
    "experiment": ("Experiment", "`config/paper/{}.yaml`"),
    "jobs": ("Jobs", "{}"),
    "generation_rounds": ("Generation rounds", "{}"),
    "requests": ("Requests", "{}"),
    "round_weights": ("Weights, by round", "{}"),
    "engine_loads": ("Engine loads, at most", "{}"),
    "trainings": ("Trainings", "{}"),
    "generated_tokens": ("Generated tokens", "{}"),
    "trained_tokens": ("Trained tokens", "{}"),
    "generation_gpu_hours": ("GPU-hours: generation", "{:.0f}"),
    "training_gpu_hours": ("training", "{:.0f}"),
    "gpu_hours": ("total", "{:.0f}"),
    "loading_gpu_hours": ("of it starts and loads", "{:.0f}"),
    "trained_gb": ("Adapters, GB", "{:.0f}"),
    "base_gb": ("Base models, GB", "{:.0f}"),
}
#: Columns of gpu_jobs.csv.
GPU_JOB_COLUMNS = (
    *("rule", "job", "kind", "models", "gpus", "gb_per_gpu", "gpu_hours", "disk_gb"),
    *("tokens", "loads", "asked_minutes"),
)
#: Columns of plan.csv that are counted and not estimated.
COUNTED = ("jobs", "generation_rounds", "requests", "round_weights", "engine_loads", "trainings")
#: Kinds of generation rounds, with their titles in plan.md. See `round_kind`.
KINDS = {
    "weak-1": "weak labels",
    "icl-1": "in-context labels",
    "iteration-2": "labels of iteration 2",
    "samples": "samples",
    "evaluation": "evaluation",
}

#: Models in the table of memory: numbers of weights by the key `paper`.
MODELS = {"Llama-3-8B-Instruct": 8_030_261_248, "Llama-2-70b": 68_976_648_192}
#: Trainings in the table of memory: keys of `training.sft`, and numbers of GPUs.
WAYS = (
    ({"adapter": "full", "deepspeed": "zero2"}, (2, 8)),
    ({"adapter": "full", "deepspeed": "zero3"}, (2, 8)),
    ({"adapter": "full", "deepspeed": "zero3_offload"}, (1,)),
    ({"adapter": "lora"}, (1,)),
    ({"adapter": "lora", "deepspeed": "zero3"}, (2, 4)),
    ({"adapter": "lora", "deepspeed": "zero3_offload"}, (1,)),
    ({"adapter": "lora", "quantization": "nf4"}, (1,)),
)
#: Settings that these trainings share.
COMMON = {
    "dtype": "bfloat16",
    "gradient_checkpointing": True,
    "lora": {"r": 8, "target_modules": PROJECTIONS},
    "max_length": 2048,
    "per_device_batch_size": 1,
}


def configuration_file(experiment: str) -> Path:
    """The configuration of one of EXPERIMENTS."""
    return ROOT / f"config/paper/{experiment}.yaml"


def read_jobs(output: str) -> dict[str, int]:
    """Jobs by rule, in the order of Snakemake's last job table; `total` is the last.

    Raises:
        ValueError: the output has no job table.
    """
    _, heading, table = output.rpartition("Job stats:\n")
    jobs = {}
    for line in table.splitlines()[2:]:
        if not (row := re.fullmatch(r"(\w+) +(\d+)", line.rstrip())):
            break
        jobs[row[1]] = int(row[2])
    if not heading or "total" not in jobs:
        raise ValueError(f"no job table in Snakemake's output: {output[-500:]}")
    return jobs


def dry_run(experiment: str) -> dict[str, int]:
    """Jobs by rule of an experiment without any results yet.

    Raises:
        RuntimeError: Snakemake cannot plan it; ends with Snakemake's message.
    """
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--forceall", "--cores", "1"]
    completed = subprocess.run(
        [*command, "--quiet", "rules", "--configfile", str(configuration_file(experiment))],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    if completed.returncode:
        raise RuntimeError(f"{experiment}: {completed.stderr.strip()[-1000:]}")
    return read_jobs(completed.stdout + completed.stderr)


def planned(experiment: str) -> tuple[Graph, Estimator, ClusterJobs]:
    """Graph, estimates and jobs of an experiment on the cluster of SITE_FILE.

    The site's GPUs decide how many engines a round has.
    """
    config = yaml.safe_load(configuration_file(experiment).read_text(encoding="utf-8"))
    graph, assumptions = Graph(load_configuration(config)), read_assumptions()
    cluster = ClusterJobs(graph, read_site(str(SITE_FILE)), assumptions, {})

    def engines(round_: Round) -> int:
        needs = cluster.generation(round_)
        return needs.gpus // needs.tensor_parallel_size

    return graph, Estimator(graph, assumptions, engines), cluster


def round_kind(round_key: str) -> str:
    """The key in KINDS of a generation round."""
    return "evaluation" if round_key.startswith("evaluation/") else round_key.rpartition("/")[2]


def round_rows(experiment: str) -> list[dict[str, Any]]:
    """Rows of rounds.csv: `experiment`, `kind`, `rounds`, `requests` and `engine_loads`."""
    graph, estimator, _ = planned(experiment)
    jobs: dict[str, list[JobEstimate]] = {kind: [] for kind in KINDS}
    for round_ in graph.rounds():
        jobs[round_kind(round_.key)].append(estimator.generation_job(round_))
    return [
        {
            "experiment": experiment,
            "kind": kind,
            "rounds": len(rounds),
            "requests": sum(job.requests for job in rounds),
            "engine_loads": sum(job.loads for job in rounds),
        }
        for kind, rounds in jobs.items()
    ]


def rounds_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of rounds.csv as a Markdown table, one line for each kind."""
    cells = {(row["kind"], row["experiment"]): row for row in rows}
    columns = ("rounds", "requests", "engine_loads")

    def line(title: str, kinds: Iterable[str]) -> list[str]:
        sums = (
            [sum(int(cells[kind, name][column]) for kind in kinds) for column in columns]
            for name in EXPERIMENTS
        )
        return [title, *(" / ".join(map(str, counts)) for counts in sums)]

    lines = [line(title, [kind]) for kind, title in KINDS.items()]
    return markdown(["Rounds / requests / loads", *EXPERIMENTS], [*lines, line("all", KINDS)])


def estimate(experiment: str) -> dict[str, Any]:
    """A row of plan.csv without the column `jobs`."""
    _, estimator, _ = planned(experiment)
    values = estimator.estimate().items()
    rounded = {name: round(v, 1) if isinstance(v, float) else v for name, v in values}
    return {"experiment": experiment, **rounded}


def gpu_jobs(experiment: str = "all") -> list[dict[str, Any]]:
    """Rows of gpu_jobs.csv: GPU_JOB_COLUMNS.

    GPUs and walltime are what the SLURM profile asks for at the first attempt. Memory is what fills
    a GPU; vLLM fills the rest of its share with more of its cache.
    """
    graph, estimator, cluster = planned(experiment)
    device = read_assumptions().device

    def row(job: JobEstimate, kind: str, needs: Needs, memory: float) -> dict[str, Any]:
        return {
            "rule": job.rule,
            "job": job.key,
            "kind": kind,
            "models": "+".join(job.models),
            "gpus": needs.gpus,
            "gb_per_gpu": round(memory / 1e9, 1),
            "gpu_hours": round(job.gpu_hours, 3),
            "disk_gb": round(job.disk_gb, 3),
            "tokens": round(job.tokens),
            "loads": job.loads,
            "asked_minutes": needs.runtime,
        }

    def training(node: Node) -> dict[str, Any]:
        job, needs = estimator.training_job(node), cluster.training(node)
        cost = cost_of_training(graph, node, estimator.shape(job.models[0]))
        return row(job, cost.trainer, needs, cost.memory(needs.gpus))

    def generation(round_: Round) -> dict[str, Any]:
        job, needs = estimator.generation_job(round_), cluster.generation(round_)
        dtype, size = graph.engine(round_.task)["dtype"], needs.tensor_parallel_size
        memory = max(
            generation_memory(estimator.shape(name), dtype, job.context, size, device)
            for name in job.models
        )
        return row(job, round_kind(round_.key), needs, memory)

    return [
        *map(training, graph.trained_nodes()),
        *map(generation, graph.rounds()),
    ]


def gpu_jobs_table(jobs: Sequence[Mapping[str, Any]]) -> str:
    """Rows of gpu_jobs.csv as a Markdown table, one line for each rule, kind and model."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for job in jobs:
        groups.setdefault((job["rule"], job["kind"], job["models"]), []).append(job)

    def spread(group: Sequence[Mapping[str, Any]], name: str, digits: int) -> str:
        values = [float(job[name]) for job in group]
        ends = dict.fromkeys(f"{value:.{digits}f}" for value in (min(values), max(values)))
        return " to ".join(ends)

    rows = [
        [
            f"`{rule}`",
            kind.replace("_", r"\_"),
            models.replace("_", r"\_"),
            str(len(group)),
            spread(group, "gpus", 0),
            spread(group, "gb_per_gpu", 0),
            spread(group, "gpu_hours", 2),
            f"{sum(float(job['gpu_hours']) for job in group):.1f}",
            f"{sum(float(job['disk_gb']) for job in group):.2f}",
        ]
        for (rule, kind, models), group in sorted(groups.items())
    ]
    head = [
        "Rule",
        "Kind",
        "Model",
        "Jobs",
        "GPUs",
        "GB a GPU",
        "GPU-hours a job",
        "all",
        "Disk, GB",
    ]
    return markdown(head, rows, left=3)


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """A pipe table, whose columns after the first `left` are aligned to the right."""
    rule = [":---" if place < left else "---:" for place in range(len(header))]
    lines = ("| " + " | ".join(row) + " |" for row in (header, rule, *rows))
    return "\n".join(lines) + "\n"


def _as_text(name: str, value: Any) -> str:
    if name.endswith("_tokens"):
        return f"{float(value) / 1e6:.0f} million"
    form = COLUMNS[name][1]
    return form.format(float(value) if ":" in form else value)


def plan_tables(plan: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The rows of plan.csv as two Markdown tables: `counted` and `estimated` columns."""
    tables = {}
    estimated = [name for name in COLUMNS if name not in COUNTED and name != "experiment"]
    for table, names in (("counted", COUNTED), ("estimated", estimated)):
        columns = ("experiment", *names)
        rows = [[_as_text(name, row[name]) for name in columns] for row in plan]
        tables[table] = markdown([COLUMNS[name][0] for name in columns], rows)
    return tables


def jobs_table(jobs: Sequence[Mapping[str, Any]]) -> str:
    """Rows of jobs.csv (`experiment`, `rule`, `jobs`) as a Markdown table, a line for each rule."""
    cells = {(row["rule"], row["experiment"]): str(row["jobs"]) for row in jobs}
    rules = [rule for rule in dict.fromkeys(row["rule"] for row in jobs) if rule != "total"]
    rows = [
        [f"`{rule}`" if rule != "total" else rule, *(cells.get((rule, e), "") for e in EXPERIMENTS)]
        for rule in [*rules, "total"]
    ]
    return markdown(["Rule", *EXPERIMENTS], rows)


#: How the first cell of a row begins in the table of assumptions, by section of the file.
_TITLES = {"tasks": "", "generation": "all tasks:", "models": "", "device": "device:"}


def _entries(part: Mapping[str, Any], path: str) -> Iterable[list[str]]:
    """Rows of the table of assumptions, one for each value."""
    for name, entry in part.items():
        place = f"{path} {name}".strip().replace("_", " ")
        if "source" not in entry:
            yield from _entries(entry, place)
            continue
        value = entry.get("value")
        if value is None:
            value = ", ".join(f"{key} {entry[key]}" for key in entry if key != "source")
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        else:
            value = f"{value:.4g}" if isinstance(value, float) else str(value)
            value = f"{value} {entry.get('unit', '')}".strip()
        yield [place, value.replace("_", " "), entry["source"].replace("_", r"\_")]


def assumptions_table() -> str:
    """resources/plan_assumptions.yaml as a Markdown table."""
    entries = yaml.safe_load(ASSUMPTIONS_FILE.read_text(encoding="utf-8"))
    device = entries["device"].pop("name")
    rows = [row for name, part in entries.items() for row in _entries(part, _TITLES[name])]
    return f"Device: {device}.\n\n" + markdown(["Of", "Value", "Source"], rows, left=3)


def memory_rows() -> list[dict[str, Any]]:
    """Rows of memory.csv: `training` (keys and values), `gpus`, and for each model two columns.

    They are gigabytes (10**9 bytes) of one GPU, and of all hosts together for what is offloaded.
    """
    known = read_assumptions().models
    shapes = {name: Shape(weights, **known[name]) for name, weights in MODELS.items()}
    rows = []
    for way, counts in WAYS:
        file = {}
        if name := way.get("deepspeed"):
            file = {"deepspeed": str(ROOT / f"config/deepspeed/{name}.json")}
        settings = {**COMMON, **way, **file}
        for gpus in counts:
            row = {"training": " ".join(f"{k}={v}" for k, v in way.items()), "gpus": gpus}
            for name, shape in shapes.items():
                cost = TrainingCost.of(shape, "sft", settings)
                gpu = cost.gpu_bytes(gpus) + cost.work_bytes(gpus)
                row[f"{name} gpu_gb"] = round(gpu / 1e9, 1)
                row[f"{name} host_gb"] = round(cost.host_bytes / 1e9, 1)
            rows.append(row)
    return rows


def memory_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of memory.csv as a Markdown table."""
    header, lines = ["`training.sft`", "GPUs"], []
    for name in MODELS:
        header += [f"{name}: GB of a GPU", "GB offloaded"]
    for row in rows:
        keys = ", ".join(f"`{key.replace('=', ': ')}`" for key in row["training"].split())
        line = [keys, str(row["gpus"])]
        for name in MODELS:
            offloaded = float(row[f"{name} host_gb"])
            line += [f"{float(row[f'{name} gpu_gb']):.0f}", f"{offloaded:.0f}" if offloaded else ""]
        lines.append(line)
    return markdown(header, lines)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def tables() -> dict[str, str]:
    """The Markdown tables of docs/plan.md by name, from the CSV files and the assumptions."""
    return {
        **plan_tables(read_csv(PLAN_FILE)),
        "jobs": jobs_table(read_csv(JOBS_FILE)),
        "rounds": rounds_table(read_csv(ROUNDS_FILE)),
        "gpu_jobs": gpu_jobs_table(read_csv(GPU_JOBS_FILE)),
        "memory": memory_table(read_csv(MEMORY_FILE)),
        "assumptions": assumptions_table(),
    }


def main() -> None:
    """Write the CSV files, their Markdown tables, and the tables into docs/plan.md."""
    jobs = {name: dry_run(name) for name in EXPERIMENTS}
    plan = [{**estimate(name), "jobs": jobs[name]["total"]} for name in EXPERIMENTS]
    by_rule = [
        {"experiment": name, "rule": rule, "jobs": count}
        for name in EXPERIMENTS
        for rule, count in jobs[name].items()
    ]
    write_csv(PLAN_FILE, plan, COLUMNS)
    write_csv(JOBS_FILE, by_rule, ("experiment", "rule", "jobs"))
    rounds = [row for name in EXPERIMENTS for row in round_rows(name)]
    write_csv(ROUNDS_FILE, rounds, rounds[0])
    write_csv(GPU_JOBS_FILE, gpu_jobs(), GPU_JOB_COLUMNS)
    memory = memory_rows()
    write_csv(MEMORY_FILE, memory, memory[0])
    for name, text in tables().items():
        (FOLDER / f"{name}.md").write_text(text, encoding="utf-8")
    document = ROOT / "docs/plan.md"
    text = document.read_text(encoding="utf-8")
    document.write_text(insert_files(text, ROOT), encoding="utf-8")


if __name__ == "__main__":
    main()
