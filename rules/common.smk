"""The experiment's graph and paths, and what several rules look up by their wildcards."""

from functools import cache

from weak_to_strong.experiment.configuration import ConfigError, load_configuration
from weak_to_strong.experiment.graph import Graph
from weak_to_strong.experiment.paths import REQUEST_STORE, TRAINING_STORE
from weak_to_strong.experiment.raw_files import RawFiles, digest_small
from weak_to_strong.experiment.yaml_keys import check_keys
from weak_to_strong.jobs.code_digest import code_digest
from weak_to_strong.jobs.snakemake_adapter import config_files, faults_in_one_line, job_facts
from weak_to_strong.jobs.verify import find_stale
from weak_to_strong.paper.released import find_released

with faults_in_one_line(WorkflowError):
    for file in config_files(workflow):
        check_keys(file)

# Any other error is a fault of the program and keeps its traceback.
with faults_in_one_line(WorkflowError, ConfigError):
    graph = Graph(load_configuration(config), PREFIX)

paths = graph.paths
raw_files = RawFiles(graph)
evaluation = graph.experiment.evaluation
PUBLISHED_DIR = graph.config["published_dir"]


wildcard_constraints:
    task=r"[A-Za-z0-9_-]+",
    chain=r"[^/]+/[^/]+/[^/]+/([^/]+/)?seed-\d+",
    method=r"[a-z][a-z0-9_]*",
    side=r"weak|icl",
    iteration=r"\d+",
    base=r"[A-Za-z0-9_.-]+",


def own_file(path):
    """A file of the project as an input, relative so that a moved project reruns nothing."""
    return os.path.relpath(CHECKOUT / path)


# A digest takes tens of milliseconds, and a rule may have a hundred jobs.
digest_once = cache(code_digest)


def code(rule_name):
    """Parameter function: digest of a rule's script and all it imports, so that an edit reruns.

    A function, so that a job on a cluster reads the code of its own rule only.
    """
    script = CHECKOUT / "scripts" / f"{rule_name}.py"
    return lambda wildcards: digest_once(script)


def chain_of(wildcards):
    """The chain that the wildcard `chain` names."""
    return graph.chain(wildcards.chain)


def node_of(wildcards):
    """The node that the wildcards `chain`, `method` and `iteration` name."""
    return graph.node_of(wildcards.chain, wildcards.method, wildcards.iteration)


def task_of(wildcards):
    """Name of the task that the wildcard `task`, `round` or `chain` is about."""
    if "round" in wildcards.keys():
        return graph.round(wildcards.round).task
    return wildcards.get("task") or chain_of(wildcards).task


def task_setting(name):
    """Parameter function: a setting of the task that a wildcard is about."""
    return lambda wildcards: getattr(graph.task(task_of(wildcards)), name)


def reading_settings(task):
    """How answers to a task are read and compared."""
    entry = graph.task(task)
    keys = ("answer_key", "stop", "extraction", "quirks")
    return {key: getattr(entry, key) for key in keys} | {"judge": graph.judge(task)}


def chain_setting(name):
    """Parameter function: a setting as it holds for the chain that a wildcard names."""
    return lambda wildcards: getattr(graph.settings(chain_of(wildcards)), name)


def judge(wildcards):
    """Parameter function: how answers to the task that a wildcard is about are compared."""
    return graph.judge(task_of(wildcards))


def questions(wildcards):
    """Input function: what the strong model may see of train_2."""
    return paths.questions.format(task=task_of(wildcards))


def labels(side):
    """Input function: labels of one side, in the iteration that the wildcard names."""
    return lambda wildcards: graph.labels(chain_of(wildcards), side, int(wildcards.iteration))


def after_data_checks(wildcards):
    """Input function: the contamination report of a task, which is made from all its splits.

    A bad split so ends the run before anything is trained. No model depends on the report:
    `ancient` lets a changed one rerun nothing.
    """
    return ancient(paths.contamination.format(task=task_of(wildcards)))


def methods_with(*trainers):
    """Wildcard pattern of the methods that one of the trainers trains, on whichever task."""
    return "|".join(graph.methods_with(trainers)) or "none"


def released_files(wildcards):
    """Input function: every released file, so that a changed, new or removed one is checked again.

    Without a folder of released data there is none, and a run ends before its first job.
    """
    try:
        return [f"{PUBLISHED_DIR}/{path}" for path in find_released(PUBLISHED_DIR)]
    except ValueError:
        return []


def stale_jobs(wildcards):
    """Parameter function: a line for each job that other parameters or other code have made."""
    return find_stale(Path(paths.root), lambda *job: job_facts(workflow, *job))
