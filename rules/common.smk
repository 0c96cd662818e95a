"""The experiment's graph and paths, and what several rules look up by their wildcards."""

import re
import sys
from functools import cache

from weak_to_strong.experiment.configuration import ConfigError, load_configuration
from weak_to_strong.experiment.entries import KINDS_FROM_PAIRS, QUESTIONS_KIND
from weak_to_strong.experiment.finished import find_finished
from weak_to_strong.experiment.graph import Graph
from weak_to_strong.experiment.paths import REQUEST_STORE, TRAINING_STORE, ComparisonPaths
from weak_to_strong.experiment.raw_files import RawFiles, digest_small
from weak_to_strong.experiment.yaml_keys import check_keys, check_overrides
from weak_to_strong.jobs.code_digest import code_digest
from weak_to_strong.jobs.snakemake_adapter import config_files, faults_in_one_line, job_facts
from weak_to_strong.jobs.verify import find_stale
from weak_to_strong.method.training_sets import TABLES_OF_KIND
from weak_to_strong.method.user_functions import function_files
from weak_to_strong.paper.released import find_released
from weak_to_strong.training.settings import TRAINERS
from weak_to_strong.training.training_run import TRAINER_CODE

with faults_in_one_line(WorkflowError):
    check_overrides(sys.argv)
    for file in config_files(workflow):
        check_keys(file)

# Any other error is a fault of the program and keeps its traceback.
with faults_in_one_line(WorkflowError, ConfigError):
    graph = Graph(load_configuration(config), PREFIX)

paths = graph.paths
raw_files = RawFiles(graph)
evaluation = graph.experiment.evaluation
EVALUATED = [evaluated.key for evaluated in graph.evaluated_sets()]
PUBLISHED_DIR = graph.config["published_dir"]
COMPARED = graph.config["experiments"]
comparison = ComparisonPaths(COMPARED, PREFIX)


def names_of(entries):
    """Wildcard pattern of the names of entries."""
    return "|".join(map(re.escape, entries))


# Tasks and base models are those of the experiment, so that a path with another name has no rule.
wildcard_constraints:
    task=names_of(graph.experiment.tasks),
    chain=r"[^/]+/[^/]+/[^/]+/([^/]+/)?seed-\d+",
    method=r"[a-z][a-z0-9_]*",
    side=r"weak|icl",
    answers=names_of(graph.experiment.answers) or "none",
    selection=names_of(graph.experiment.selections) or "none",
    preferences=names_of(graph.experiment.preferences) or "none",
    iteration=r"\d+",
    base=names_of(graph.experiment.models),
    evaluated=names_of(EVALUATED),


def own_file(path):
    """A file of the project as an input, relative so that a moved project reruns nothing."""
    return os.path.relpath(CHECKOUT / path)


def page_templates(name):
    """A page's template and its style, which the digest of the code does not cover."""
    folder = "scripts/weak_to_strong/report"
    return [own_file(f"{folder}/{file}") for file in (name, "page_style.css")]


# A digest takes tens of milliseconds, and a rule may have a hundred jobs.
digest_once = cache(code_digest)


def code(rule_name):
    """Parameter function: digest of a rule's script and all it imports, so that an edit reruns.

    A function, so that a job on a cluster reads the code of its own rule only.
    """
    script = CHECKOUT / "scripts" / f"{rule_name}.py"
    return lambda wildcards: digest_once(script)


def trainer_code(trainer):
    """Digest of the code that only one trainer runs; None where `train` reaches all of it."""
    return digest_once(TRAINER_CODE[trainer]) if trainer in TRAINER_CODE else None


def function_code(reference):
    """Digests of the files of a user's function, so that an edit runs its rule again."""
    return [digest_once(file) for file in function_files(reference)]


#: Answers of a round up to which a second engine on a CPU does not pay. Its start takes some 8 s of
#: processor time, in which an engine with a tiny model gives 400 answers.
FEW_ANSWERS = 1000


def engine_threads(wildcards):
    """Threads of a generation round: one for few answers, so that a training may use the other."""
    answers = graph.round_answers(graph.round(wildcards.round))
    return 1 if answers is not None and answers <= FEW_ANSWERS else 2


def training_settings(node):
    """Settings of a training, with the digest of the user's function that rewards, if one does."""
    digests = function_code(graph.method(node).reward_function)
    return graph.training_settings(node) | ({"function_code": digests[0]} if digests else {})


def selection_of(wildcards):
    """The entry that the wildcard `selection` names."""
    return graph.experiment.selections[wildcards.selection]


def preferences_of(wildcards):
    """The entry that the wildcard `preferences` names."""
    return graph.experiment.preferences[wildcards.preferences]


def chain_of(wildcards):
    """The chain that the wildcard `chain` names."""
    return graph.chain(wildcards.chain)


def node_of(wildcards):
    """The node that the wildcards `chain`, `method` and `iteration` name."""
    return graph.node_of(wildcards.chain, wildcards.method, wildcards.iteration)


def evaluated_of(wildcards):
    """The questions that the wildcard `evaluated` names."""
    return graph.evaluated_set(wildcards.evaluated)


def task_of(wildcards):
    """Name of the task that the wildcard `task`, `evaluated`, `round` or `chain` is about."""
    if "round" in wildcards.keys():
        return graph.round(wildcards.round).task
    if "evaluated" in wildcards.keys():
        return evaluated_of(wildcards).task
    return wildcards.get("task") or chain_of(wildcards).task


def task_setting(name):
    """Parameter function: a setting of the task that a wildcard is about."""
    return lambda wildcards: getattr(graph.task(task_of(wildcards)), name)


def reading_settings(task):
    """How answers to a task are read and compared."""
    entry = graph.task(task)
    keys = ("answer_key", "stop", "extraction", "quirks")
    return {key: getattr(entry, key) for key in keys} | {"judge": graph.judge(task)}


def endpoint_setting(name):
    """Resource function: how the endpoint of a round is asked. Its change reruns nothing."""
    return lambda wildcards: graph.endpoint_of(graph.round(wildcards.round))[name] or ""


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


def methods_on(*kinds):
    """Wildcard pattern of the methods that are trained on a kind of rows, on whichever task."""
    return "|".join(graph.methods_on(kinds)) or "none"


def released_files(wildcards):
    """Input function: every released file, so that a changed, new or removed one is checked again.

    Without a folder of released data there is none, and a run ends before its first job.
    """
    try:
        return [f"{PUBLISHED_DIR}/{path}" for path in find_released(PUBLISHED_DIR)]
    except ValueError:
        return []


def compared_files(wildcards):
    """Parameter function: files of the compared experiments, with their recorded contents.

    There are none where one of these is missing or unfinished: a run ends before its first job.
    """
    try:
        return find_finished(COMPARED, PREFIX)
    except ValueError:
        return []


def stale_jobs(wildcards):
    """Parameter function: a line for each job that other parameters or other code have made."""
    return find_stale(Path(paths.root), lambda *job: job_facts(workflow, *job))


def model_to_upload():
    """What the script needs to know of the model that `upload.model` names; None without one."""
    key = graph.config["upload"]["model"]
    if key is None:
        return None
    node = graph.trained_node(key)
    init = graph.init_of(node)
    return {
        "key": node.key,
        "manifest": graph.manifest(node),
        "base": graph.base_manifest(graph.base_of(node)),
        "data": graph.method(node).data,
        "init": init.key if init else None,
        "node": graph.evaluation_nodes().get(f"{node.key}#greedy"),
    }
