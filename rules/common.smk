"""Configuration, the experiment's graph, and what all rules share."""

import os
import sys
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from snakemake.logging import logger

from weak_to_strong.cluster.cluster_jobs import (
    CPU_RESOURCES,
    GENERATION_RESOURCES,
    TRAINING_RESOURCES,
    find_cluster,
)
from weak_to_strong.jobs.code_digest import code_digest
from weak_to_strong.experiment.configuration import (
    DESCRIPTIVE_KEYS,
    ConfigError,
    load_configuration,
    require_pins,
)
from weak_to_strong.generation.rounds import check_gpu, usable_gpus
from weak_to_strong.experiment.graph import Chain, Graph, Node
from weak_to_strong.paper.published_results import names_of
from weak_to_strong.jobs.records import note_command
from weak_to_strong.paper.released import find_released
from weak_to_strong.jobs.locks import Runs, check_times, check_writable, mark_parent
from weak_to_strong.data.sources import remote_name, source_entries
from weak_to_strong.data.splits import narrow_settings
from weak_to_strong.tables.files import hash_file, hash_value
from weak_to_strong.training.settings import most_processes

#: Scripts end with this process, on whichever machine it is.
mark_parent(os.environ)
RUN = Runs(Path(".snakemake"))
try:
    if workflow.is_main_process:
        # Even a dry run writes there, and would end in a traceback.
        check_writable(Path(".snakemake"))
        RUN.enter()
except ValueError as error:
    print(error, file=sys.stderr)
    sys.exit(1)

note_command(sys.argv)

try:
    graph = Graph(load_configuration(config))
except ConfigError as error:
    # One line, before any job; a traceback through Snakemake's frames would hide it.
    print(error, file=sys.stderr)
    sys.exit(1)

SETTINGS = graph.config
#: Of the target `published` alone: what other rules see of the settings must not change with it.
PUBLISHED_DIR = SETTINGS.pop("published_dir")
#: Keys of a task that decide its tables.
DATA_KEYS = (
    *("loader", "templates", "form", "data_seed", "splits", "pool"),
    *("columns", "ids", "subjects", "remove_overlap"),
)
RESULTS = graph.root

#: Raw files above this size (bytes) are compared by time only, as in the profile.
SMALL = 100_000_000


@cache
def hash_once(path):
    return hash_file(path)


def digest_small(paths):
    """sha256 by path of those files that exist and are small."""
    small = [path for path in paths if Path(path).is_file() and Path(path).stat().st_size <= SMALL]
    return {path: hash_once(path) for path in small}


#: A digest takes tens of milliseconds, and a rule may have a hundred jobs.
digest_once = cache(code_digest)


# Jobs of a cluster, or None: jobs then have the resources that stand in their rules.
try:
    CLUSTER = find_cluster(graph, workflow.resource_settings)
    if CLUSTER and not (workflow.remote_exec or workflow.subprocess_exec):
        # Also a check: a model that does not fit ends the run here, before any job.
        print("GPU jobs:", CLUSTER.plan(), sep="\n", file=sys.stderr)
except ValueError as error:
    print(error, file=sys.stderr)
    sys.exit(1)


def own_file(path):
    """A file of the project as an input, relative so that a moved project reruns nothing."""
    return os.path.relpath(Path(workflow.basedir) / path)


def gpu_job(names, needs, local):
    """Resources of a rule of GPU jobs, as functions of wildcards and attempt.

    `needs` says what a job of the rule needs, `local` holds where there is no cluster.
    """
    if CLUSTER is None:
        return local

    def resource(name):
        return lambda wildcards, attempt: CLUSTER.gpu_resource(name, needs(wildcards, attempt))

    return local | {name: resource(name) for name in names}


# Jobs on this machine's GPUs take turns: each has all of them.
GPUS = (usable_gpus() or 0) if CLUSTER is None and workflow.local_exec else 0
if GPUS and "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", GPUS)


def training_job(**local):
    """Resources of `train`."""
    if GPUS:
        local["gpu"] = GPUS
        local["processes"] = lambda wildcards: most_processes(
            graph.training_settings(node_of(wildcards)), GPUS
        )
    return gpu_job(
        TRAINING_RESOURCES,
        lambda wildcards, attempt: CLUSTER.training(node_of(wildcards), attempt),
        local,
    )


def generation_job(**local):
    """Resources of `generate`."""
    if GPUS:
        local["gpu"] = GPUS
    return gpu_job(
        GENERATION_RESOURCES,
        lambda wildcards, attempt: CLUSTER.generation(wildcards.round, attempt),
        local,
    )


def cpu_job(**local):
    """Resources of jobs that take minutes of CPU, too much for a login node.

    Rules of seconds are local ones instead: as jobs they would mostly wait.
    """
    if CLUSTER is None:
        return local

    def resource(name):
        return lambda wildcards, attempt: CLUSTER.cpu_resource(name, attempt)

    return local | {name: resource(name) for name in CPU_RESOURCES}


def code(rule_name):
    """Parameter function: digest of a rule's script and all it imports, so that an edit reruns.

    A function, so that a job on a cluster reads the code of its own rule only.
    """
    script = Path(workflow.basedir) / "scripts" / f"{rule_name}.py"
    return lambda wildcards: digest_once(script)


def task_setting(key):
    """Parameter function: a key of the task that wildcard `task` or `chain` names."""

    def lookup_task(wildcards):
        task = wildcards.get("task") or Chain.parse(wildcards.chain).task
        return SETTINGS["tasks"][task][key]

    return lookup_task


def judge_settings(wildcards):
    """Parameter function: how answers to the task of wildcard `task` or `chain` are compared."""
    return graph.judge(wildcards.get("task") or Chain.parse(wildcards.chain).task)


def questions_file(wildcards):
    """What the strong model may see of train_2, of the task that wildcard `chain` names."""
    return graph.data(Chain.parse(wildcards.chain).task, "train_2")


def node_of(wildcards):
    """The node that wildcards `chain`, `method` and `iteration` name."""
    return Node(Chain.parse(wildcards.chain), wildcards.method, int(wildcards.iteration))


def data_settings(task, split=None):
    """What decides a task's tables (or one split); how answers are asked for and read does not."""
    settings = SETTINGS["tasks"][task]
    settings = {key: settings[key] for key in DATA_KEYS if key in settings}
    return narrow_settings(settings, split) if split else settings


def reading_settings(task):
    """How answers to a task are read and compared."""
    keys = ("answer_key", "stop", "extraction", "quirks")
    return {key: SETTINGS["tasks"][task][key] for key in keys} | {"judge": graph.judge(task)}


def source_file(task, entry):
    """Where a raw file lies: as given, or where `fetch_source` puts it."""
    if "path" in entry:
        return entry["path"]
    name = f"{hash_value(entry)[:12]}-{remote_name(entry)}"
    return f"{RESULTS}/data/{task}/sources/{name}"


def source_files(task, split=None):
    entries = source_entries(data_settings(task, split))
    return [source_file(task, entry) for _, entry in entries]


def local_digests(task, split=None):
    """Digests of a task's local raw files.

    As a parameter, they show a change even where the clock was set back, or a copied file kept its
    time: Snakemake looks only at inputs that are younger than their outputs.
    """
    entries = source_entries(data_settings(task, split))
    return digest_small([entry["path"] for _, entry in entries if "path" in entry])


def remote_source(wildcards):
    """The pinned entry of the file that wildcard `name` names."""
    entries = source_entries(data_settings(wildcards.task))
    files = {source_file(wildcards.task, entry): entry for _, entry in entries}
    return files[f"{RESULTS}/data/{wildcards.task}/sources/{wildcards.name}"]


def base_entry(wildcards):
    """A base model's entry, and whether it may name code of its own."""
    trust = {"trust_remote_code": True} if SETTINGS["trust_remote_code"] else {}
    entry = {**SETTINGS["models"][wildcards.base], **trust}
    return {key: value for key, value in entry.items() if key not in DESCRIPTIVE_KEYS}


def base_files(wildcards):
    """Files of a local base model, so that replacing its weights reruns what uses them."""
    path = SETTINGS["models"][wildcards.base].get("path")
    return sorted(str(file) for file in Path(path).iterdir() if file.is_file()) if path else []


def all_splits(task):
    """Made from all splits of a task: a bad one ends the run before anything is trained.

    What is in it matters to no model, so its change runs nothing again.
    """
    return ancient(f"{RESULTS}/data/{task}/contamination.csv")


def training_files(wildcards):
    """Manifests of the models from which a node's training starts; its DeepSpeed file."""
    node = node_of(wildcards)
    init = graph.init_of(node)
    files = {"base": graph.base_manifest(graph.base_of(node))}
    if init:
        files["init"] = graph.manifest(init)
    if "deepspeed" in graph.training_settings(node):
        files["deepspeed"] = graph.training_settings(node)["deepspeed"]
    return files


def set_files(wildcards):
    return graph.training_inputs(node_of(wildcards))


def label_generations(wildcards):
    chain, iteration = Chain.parse(wildcards.chain), int(wildcards.iteration)
    return graph.generations(graph.label_round(chain, wildcards.side, iteration))


def diagnostic_files(wildcards):
    files = []
    for chain in graph.diagnostics():
        files += [chain["gold"], *filter(None, [chain["votes"]]), *chain["pairs"].values()]
        files += chain["weak_labels"] + chain["icl_labels"] + chain["kept"] + [chain["questions"]]
    return list(dict.fromkeys(files))


def methods_with(trainers):
    """Wildcard pattern of the methods that one of the trainers trains, on whichever task."""
    methods = (graph.methods(task) for task in graph.tasks)
    names = {name for each in methods for name in each if each[name]["trainer"] in trainers}
    return "|".join(sorted(names)) or "none"


def chain_setting(key):
    """Parameter function: a setting as it holds for the chain that wildcard `chain` names."""
    return lambda wildcards: graph.setting(Chain.parse(wildcards.chain), key)


def released_files(_wildcards):
    """Every released file, so that a changed, new or removed one is checked again."""
    try:
        return [f"{PUBLISHED_DIR}/{path}" for path in find_released(PUBLISHED_DIR)]
    except ValueError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


onstart:
    # Not for a dry run: the plan of an experiment needs no network.
    try:
        require_pins(SETTINGS)
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    RUN.started(cluster=not workflow.local_exec)
    if workflow.local_exec:
        # Where jobs wait for a core, Snakemake 9 looks at them a second after each such look, for
        # ever, and adds one with every job that ends: a tenth of a core after a hundred jobs. All
        # for a limit on submissions, which is a cluster's matter.
        workflow.scheduler.job_rate_limiter = None
    try:
        check_writable(Path(RESULTS))
        check_times(path for job in workflow.dag.needrun_jobs() for path in job.input)
        if workflow.local_exec and any(
            job.rule.name == "generate" for job in workflow.dag.needrun_jobs()
        ):
            check_gpu()
    except ValueError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    # In Snakemake's log, where `slurm_costs` reads which runs made an experiment.
    logger.info(f"Experiment: {SETTINGS['experiment']}")


onerror:
    if said := RUN.explain(log):
        logger.error(said)


wildcard_constraints:
    task=r"[A-Za-z0-9_-]+",
    chain=r"[^/]+/[^/]+/[^/]+/([^/]+/)?seed-\d+",
    method=r"[a-z][a-z0-9_]*",
    side=r"weak|icl",
    iteration=r"\d+",
    base=r"[A-Za-z0-9_.-]+",
