"""Every use of what Snakemake does not document: attributes of its objects, and its own files.

Each use says why it is needed. `tests/jobs/test_snakemake_adapter.py` runs Snakemake and fails when
an upgrade changes one of them. Nothing here imports Snakemake: scripts import this module too, and
their environments need not have it.
"""

from __future__ import annotations

import base64
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Snakemake's own folder in the folder of a run.
FOLDER = Path(".snakemake")
#: Folder with a file for each finished output, see `read_metadata`.
METADATA = FOLDER / "metadata"
#: Folder with a file for each output whose job has not finished, see `mark_incomplete`.
INCOMPLETE = FOLDER / "incomplete"
#: Name of the empty file that Snakemake puts into each folder that is an output.
FOLDER_TIME = ".snakemake_timestamp"
#: Longest name of a file in both folders. A longer one is cut into folders that begin with `@`.
_NAME_LENGTH = 254
#: The version of what `write_metadata` writes.
_FORMAT = 6
#: Types of the parameters that Snakemake stores. It ignores others.
_STORED = (int, float, str, complex, range, list, tuple, dict, set, frozenset, bytes, bytearray)


# --- files -----------------------------------------------------------------------------------


def serialise_params(values: Iterable[Any]) -> list[str]:
    """Values of a job's parameters as Snakemake stores them, sorted.

    A job's record has them, so that it shows by itself which parameters made the job's files.

    Snakemake leaves out parameters that are functions of inputs, outputs, threads or resources. A
    script cannot tell these from others. So no rule of this workflow has such a parameter.
    """
    return sorted(repr(value) for value in values if value is None or isinstance(value, _STORED))


def metadata_file(output: str, folder: Path = METADATA) -> Path:
    """The file of an output in one of Snakemake's folders.

    Args:
        output: path as the rule declares it.
        folder: METADATA or INCOMPLETE.
    """
    name = base64.urlsafe_b64encode(output.encode()).decode()
    *folders, last = (name[i : i + _NAME_LENGTH] for i in range(0, len(name), _NAME_LENGTH))
    return folder.joinpath(*(f"@{folder}" for folder in folders), last)


def read_metadata(output: str) -> dict[str, Any]:
    """What Snakemake knows of the job that made an output; {} where it knows nothing.

    From this Snakemake decides whether to make the output again. Keys: rule, input, log, params,
    starttime, endtime (seconds since 1970), input_checksums, and others.
    """
    try:
        facts = json.loads(metadata_file(output).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def write_metadata(output: str, facts: Mapping[str, Any]) -> None:
    """Set what Snakemake knows of the job that made an output. Other keys stay as they are.

    Snakemake has no command for this. It is needed where Snakemake's folder was lost, and where
    `--touch` has given old results new parameters.
    """
    facts = {**read_metadata(output), **facts, "record_format_version": _FORMAT}
    _write(metadata_file(output), {**facts, "incomplete": False})


def mark_incomplete(output: str) -> None:
    """Let Snakemake make an output again, as if its job had been interrupted.

    Snakemake removes the mark when the job has finished. The option `rerun-incomplete` of
    profiles/default makes these outputs again. Without it Snakemake ends and names them.
    """
    _write(metadata_file(output, INCOMPLETE), {"external_jobid": None})


def incomplete_files() -> set[Path]:
    """Snakemake's files for outputs that are marked as incomplete."""
    return {path for path in INCOMPLETE.rglob("*") if path.is_file()}


def _write(file: Path, facts: Mapping[str, Any]) -> None:
    # Snakemake takes a metadata folder alone for one of an old version.
    INCOMPLETE.mkdir(parents=True, exist_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(facts), encoding="utf-8")
    # As Snakemake does, so that other members of a group can go on with its files.
    if (mode := file.stat().st_mode) & 0o660 != 0o660:
        file.chmod(mode | 0o660)


def locks_folder(folder: Path = FOLDER) -> Path:
    """Where Snakemake's file locks are. They outlive a killed run, after which we remove them."""
    return folder / "locks"


def list_locks(folder: Path = FOLDER) -> list[Path]:
    """Snakemake's lock files, of all runs."""
    return sorted(locks_folder(folder).glob("*.lock"))


def is_rule_script(command: list[str]) -> bool:
    """Whether a command line is that of a rule's script.

    On SIGTERM the scripts end what they started, and must be told before the shells around them.
    Snakemake runs a script from a copy in `.snakemake/scripts`, the first argument of Python.
    """
    return any("/.snakemake/scripts/" in word for word in command[1:2])


def was_killed(logs: Iterable[str]) -> bool:
    """Whether Snakemake's logs say that a job was killed (SIGKILL).

    Snakemake repeats the message of Python's `CalledProcessError`, and has no other sign of it.
    """
    texts = (Path(log).read_text(encoding="utf-8", errors="replace") for log in logs)
    return any("died with <Signals.SIGKILL" in text for text in texts)


# --- faults ----------------------------------------------------------------------------------


@contextmanager
def faults_in_one_line(
    workflow_error: type[Exception], kind: type[ValueError] = ValueError
) -> Iterator[None]:
    """Turn a ValueError of a rules file into a `WorkflowError` that Snakemake prints as one line.

    Below a `WorkflowError` Snakemake prints the frames of its traceback. They would hide the line,
    which names the key or file and the fix. Snakemake reads them from `__traceback__`.

    In a dry run Snakemake writes all messages to stdout. The line goes to stderr as in any run.

    Args:
        workflow_error: Snakemake's class `WorkflowError`.
        kind: errors of another kind pass, with their traceback.
    """

    class RunFault(workflow_error):
        __traceback__ = property(lambda self: None, lambda self, value: None)

    try:
        yield
    except kind as error:
        for handler in logging.getLogger("snakemake.logging").handlers:
            if handler.name == "DefaultStreamHandler":
                handler.setStream(sys.stderr)
        raise RunFault(str(error)) from None


# --- the workflow object ---------------------------------------------------------------------


def has_configfile_option(workflow: Any) -> bool:
    """Whether the command line names a configuration file.

    Snakemake would merge it with the file that the Snakefile names, and settings of the demo would
    reach other experiments.
    """
    return bool(workflow.overwrite_configfiles)


def config_files(workflow: Any) -> list[str]:
    """The configuration files that Snakemake has read, those of the command line among them.

    Their text shows what the merged configuration no longer does, such as a key that stands twice.
    """
    return [str(file) for file in workflow.configfiles]


def take_prefix(workflow: Any) -> str:
    """The `prefix` under which another workflow has this one as a module; "" without one.

    Snakemake would put it before every relative path of a rule: before the user's models and data
    too, and not before the paths in parameters. Here it is taken from Snakemake, and our own paths
    of results carry it. A module is read once for each `use rule`, so the prefix is kept.
    """
    modifier = workflow.modifier.path_modifier
    if not hasattr(modifier, "taken_prefix"):
        modifier.taken_prefix, modifier.prefix = modifier.prefix or "", None
    return modifier.taken_prefix


def is_main_workflow(workflow: Any) -> bool:
    """Whether this is the workflow that Snakemake was started with, and no module of another one.

    Snakemake calls `onstart` and `onerror` of that one only. Locks that end there are taken by it
    alone.
    """
    return workflow.modifier.is_main_snakefile()


def is_first_process(workflow: Any) -> bool:
    """Whether this process is the run itself, and not one that it started for a job.

    Only the run takes locks and prints the table of GPU jobs.
    """
    return workflow.is_main_process


def keep_locks_of_others(persistence: type) -> None:
    """Let a run that ends remove its own file locks only.

    Snakemake 9 removes the whole folder of locks, with those of other experiments at work in the
    project folder. `--unlock` then removes none either: `locks.Runs.enter` has done that.

    Args:
        persistence: Snakemake's class `FilePersistence`.
    """

    def delete_own(self: Any) -> None:
        for path in self._lockfile.values():
            Path(path).unlink(missing_ok=True)
        self._lockfile.clear()

    persistence._delete_locks = delete_own


def run_before_until(dag: type) -> None:
    """Let `--until RULE` run jobs of this rule of which other jobs of it depend.

    Snakemake 9 never starts what depends on a job that `--until` names, although it has planned it:
    `--until train` ends with "BUG: Out of jobs ready to be started", even a dry run. By then no job
    is planned any more on which no job of the rule depends, so that there is nothing to hold back.

    Args:
        dag: Snakemake's class `DAG`.
    """
    choose, is_named = dag.set_until_jobs, dag.in_until

    def choose_and_forget(self: Any) -> None:
        self.in_until = lambda job: is_named(self, job)
        choose(self)
        self.in_until = lambda job: False

    dag.set_until_jobs = choose_and_forget


def call_before_plan(dag: type, prepare: Callable[[Any], None]) -> None:
    """Call a function with the workflow before Snakemake plans its jobs.

    Snakemake knows where jobs run only after it has read the rules. It gives jobs their threads as
    it plans, and starts the executor afterwards.

    Args:
        dag: Snakemake's class `DAG`.
        prepare: the function. A module is read once for each `use rule`, so it may be called twice.
    """
    init = dag.init

    async def init_prepared(self: Any, *arguments: Any, **options: Any) -> None:
        prepare(self.workflow)
        await init(self, *arguments, **options)

    dag.init = init_prepared


def lift_core_limit(workflow: Any) -> None:
    """Let `--cores` limit no job of a cluster.

    Snakemake 9 gives no job more threads than `--cores` says, and hands that number on to the jobs.
    In a small job `--cores all` is its one CPU, so that all jobs would get one thread. `--jobs`
    limits the jobs of a cluster, and `--max-threads` their threads.
    """
    workflow.resource_settings.cores = None
    workflow.global_resources["_cores"] = None


def own_locks(workflow: Any) -> list[str]:
    """Names of the lock files that this run has made.

    Another run must know which locks of the folder are those of a run that was killed.
    """
    return [Path(path).name for path in workflow.persistence._lockfile.values()]


def runs_on_this_machine(workflow: Any) -> bool:
    """Whether jobs run on this machine; false for a cluster, or before Snakemake knows."""
    return workflow.local_exec


def offer_gpus(workflow: Any, count: int) -> None:
    """Let jobs take turns with this machine's GPUs, unless the command line limits `gpu`.

    `--resources gpu=N` does this, but nobody should have to count the GPUs of a machine.
    """
    if "gpu" not in workflow.global_resources:
        workflow.register_resource("gpu", count)


def lift_rate_limit(workflow: Any) -> None:
    """Start local jobs without a limit per second.

    Where jobs wait for a core, Snakemake 9 looks at the limit again after a second, for ever, and
    once more for each job that has ended: a tenth of a core after a hundred jobs.
    """
    workflow.scheduler.job_rate_limiter = None


def call_before_jobs(workflow: Any, check: Callable[[str], None]) -> None:
    """Call a check of a module before the first job of the workflow that has it.

    Snakemake calls `onstart` of the workflow alone that it was started with, and that one may come
    after the module. A module is read once for each `use rule`; the check is called once.

    Args:
        workflow: Snakemake's object.
        check: gets the path of Snakemake's log, as `onstart` does.
    """
    checks = getattr(workflow, "checks_of_modules", None)
    if checks is None:
        checks = workflow.checks_of_modules = {}
        register = workflow.onstart

        def with_checks(start: Callable[[str], None]) -> Callable[[str], None]:
            def start_checked(log: str) -> None:
                for module_check in checks.values():
                    module_check(log)
                start(log)

            return start_checked

        workflow._onstart = with_checks(workflow._onstart)
        workflow.onstart = lambda start: register(with_checks(start))
    checks[workflow.modifier.namespace] = check


def _script_of(rule: Any) -> Path | None:
    """The script of a rule. In a module the rule has another name, and the script is the same."""
    return Path(rule.basedir, rule.script).resolve() if rule.script else None


def planned_jobs(workflow: Any, scripts: Path) -> dict[str, list[str]]:
    """Inputs of the jobs that this run starts, by name of their script without `.py`.

    For checks before the first job: of times of inputs, and of GPUs where a rule needs them.

    Args:
        workflow: Snakemake's object.
        scripts: folder of the scripts. Jobs with another script, or without one, are left out.
    """
    inputs: dict[str, list[str]] = {}
    for job in workflow.dag.needrun_jobs():
        script = _script_of(job.rule)
        if script and script.parent == scripts.resolve():
            inputs.setdefault(script.stem, []).extend(map(str, job.input))
    return inputs


@dataclass(frozen=True)
class ScheduledJob:
    """A job that this run starts, with what tells the others what it is."""

    script: str  # name of its script without `.py`, which is also the name of its rule
    wildcards: Mapping[str, str]
    log: str
    job: Any  # Snakemake's object


def scheduled_jobs(workflow: Any, scripts: Path) -> list[ScheduledJob]:
    """The jobs that this run starts, for its progress line; only those with a script and a log.

    Args:
        workflow: Snakemake's object.
        scripts: folder of the scripts.
    """
    found = []
    for job in workflow.dag.needrun_jobs():
        script = _script_of(job.rule)
        if script and script.parent == scripts.resolve() and job.log:
            wildcards = dict(job.wildcards_dict)
            found.append(ScheduledJob(script.stem, wildcards, str(job.log[0]), job))
    return found


def run_counts(workflow: Any) -> tuple[int, int]:
    """Numbers of finished and of all jobs, as Snakemake's own messages have them."""
    return workflow.scheduler.finished_jobs, len(workflow.dag)


def running_gpus(workflow: Any, jobs: Iterable[ScheduledJob]) -> dict[str, int]:
    """GPUs that each job which is running or submitted asked for, by its log.

    Resources of a running job have been worked out; those of others may not be looked at.
    """
    running = set(workflow.scheduler.running)
    gpus = ((job.log, job.job.resources.get("gpu", 0)) for job in jobs if job.job in running)
    return {log: count if isinstance(count, int) else 0 for log, count in gpus}


def finished_logs(workflow: Any, jobs: Iterable[ScheduledJob]) -> frozenset[str]:
    """Logs of the jobs that have ended well."""
    return frozenset(job.log for job in jobs if workflow.dag.finished(job.job))


def has_quiet_option(workflow: Any) -> bool:
    """Whether the user wants no messages about progress (`--quiet`)."""
    quiet = workflow.output_settings.quiet or ()
    return any(entry.name in ("PROGRESS", "ALL") for entry in quiet)


def surround_messages(context: Callable[[], AbstractContextManager]) -> None:
    """Show each message of Snakemake within a context, such as one that makes room for it.

    Snakemake has an interface for loggers, but it wants a package that is installed.
    """

    def surround(emit: Callable[[logging.LogRecord], None]) -> Callable[[logging.LogRecord], None]:
        def emit_within(record: logging.LogRecord) -> None:
            with context():
                emit(record)

        return emit_within

    for handler in logging.getLogger("snakemake.logging").handlers:
        if handler.name == "DefaultStreamHandler":
            handler.emit = surround(handler.emit)


def planned_wildcards(workflow: Any, script: Path) -> list[dict[str, str]]:
    """Wildcards of the jobs with a script that this run starts.

    The base models that no job has described yet are checked before the first job.
    """
    return [
        dict(job.wildcards_dict)
        for job in workflow.dag.needrun_jobs()
        if _script_of(job.rule) == script.resolve()
    ]


def job_facts(
    workflow: Any, rule: str, wildcards: Mapping[str, str]
) -> tuple[list[str], list[str]] | None:
    """Parameters and inputs that the present configuration and code give a job.

    `snakemake verify` compares them with the job's record. Snakemake's own comparison needs a plan
    of the whole workflow, and looks at what `--touch` has changed.

    Returns:
        See `serialise_params`, and the sorted inputs; None for a job that the configuration no
        longer has, or whose inputs are gone.
    """
    try:
        rule = workflow.get_rule(rule)
        inputs = rule.expand_input(wildcards)[0]
        outputs = rule.expand_output(wildcards)[0]
        _, params = rule.expand_params(wildcards, inputs, outputs, None)
    except Exception:  # Functions of rules raise whatever a lookup of an unknown name raises.
        return None
    return serialise_params(params), sorted(map(str, inputs))


def default_resource(resource_settings: Any, name: str) -> str | None:
    """A default resource as a profile or the command line gives it; None without one.

    The site file of a cluster is named by one, since Snakemake hands these on to a cluster's jobs.
    """
    defaults = resource_settings.default_resources or {}
    return str(defaults[name].raw).strip("'\"") if name in defaults else None


def set_resources(resource_settings: Any) -> dict[str, dict[str, Any]]:
    """Constant resources of `--set-resources` by rule: they decide other resources of a job."""
    return {
        rule: {key: value.value for key, value in given.items() if not value.is_evaluable()}
        for rule, given in (resource_settings.overwrite_resources or {}).items()
    }
