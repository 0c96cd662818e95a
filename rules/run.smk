"""One run: its locks, the checks before its first job, and how it ends."""

import os

from snakemake.dag import DAG
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.persistence.file import FilePersistence

from weak_to_strong.data.sources import check_remote
from weak_to_strong.experiment.check_data import check_family_settings
from weak_to_strong.experiment.pins import require_keys, require_pins
from weak_to_strong.experiment.work_sizes import WorkSizes
from weak_to_strong.jobs.allocation import leave_job
from weak_to_strong.jobs.child_processes import leave_out_working_folder
from weak_to_strong.jobs.gpus import check_gpu
from weak_to_strong.jobs.locks import Runs, check_times, check_writable, mark_parent
from weak_to_strong.jobs.machine import (
    allow_open_files,
    call_python_by_name,
    check_checkout_path,
    check_temporary_folders,
    name_user,
)
from weak_to_strong.jobs.progress import ProgressLine, RunState, line_seconds, measure_records
from weak_to_strong.jobs.records import note_command, read_job_records
from weak_to_strong.jobs.snakemake_adapter import (
    FOLDER,
    call_before_jobs,
    surround_messages,
    call_before_plan,
    default_resource,
    faults_in_one_line,
    finished_logs,
    has_quiet_option,
    is_first_process,
    is_main_workflow,
    keep_locks_of_others,
    lift_core_limit,
    lift_rate_limit,
    own_locks,
    planned_jobs,
    planned_wildcards,
    run_before_until,
    run_counts,
    running_gpus,
    runs_on_this_machine,
    scheduled_jobs,
)
from weak_to_strong.models.base_models import check_image_package
from weak_to_strong.models.chat_check import check_chats
from weak_to_strong.jobs.trackers import REPORT_TO_RESOURCE, choose_trackers
from weak_to_strong.models.loading import check_before_jobs
from weak_to_strong.paper.released import find_released

# Scripts end with this process, on whichever machine it is.
mark_parent(os.environ)
name_user(os.environ)
call_python_by_name(os.environ)
note_command(sys.argv)
if is_main_workflow(workflow):
    # Jobs of a cluster start with `python -m snakemake`. As a module, the user's own rules may
    # import from their folder.
    leave_out_working_folder(os.environ)
run_before_until(DAG)


def submit_as_asked(workflow):
    """A run inside a small SLURM job: the jobs that it submits get what their rules ask for."""
    if is_first_process(workflow) and not runs_on_this_machine(workflow):
        leave_job(os.environ)
        lift_core_limit(workflow)


call_before_plan(DAG, submit_as_asked)
run = Runs(FOLDER)
if is_first_process(workflow):
    with faults_in_one_line(WorkflowError):
        # Even a dry run writes there, and would end in a traceback.
        check_writable(FOLDER)
        check_checkout_path(str(CHECKOUT))
        allow_open_files()
        line_seconds(os.environ)
        choose_trackers(
            os.environ, default_resource(workflow.resource_settings, REPORT_TO_RESOURCE)
        )
        if is_main_workflow(workflow):
            run.enter(unlock="--unlock" in sys.argv)
    if is_main_workflow(workflow):
        keep_locks_of_others(FilePersistence)


def check_run(log):
    """Check what the planned jobs need. A dry run skips this: a plan needs no network or GPU."""
    inputs = planned_jobs(workflow, CHECKOUT / "scripts")
    with faults_in_one_line(WorkflowError):
        require_pins(graph.config)
        check_writable(Path(paths.root))
        check_times(path for files in inputs.values() for path in files)
        if "check_released" in inputs:
            find_released(PUBLISHED_DIR)
        if "compare" in inputs:
            find_finished(COMPARED, PREFIX)
        new = {
            job["base"] for job in planned_wildcards(workflow, CHECKOUT / "scripts/base_model.py")
        }
        check_before_jobs(
            {
                base: entry["path"]
                for base, entry in sorted(graph.experiment.models.items())
                if base in new and "path" in entry
            }
        )
        if "contamination" in inputs:
            check_family_settings({task: graph.task(task).data for task in graph.tasks})
        for job in planned_wildcards(workflow, CHECKOUT / "scripts/fetch_source.py"):
            key, entry = raw_files.remote_key(job["task"], job["name"])
            check_remote(entry, f"config key `{key}`")
        if inputs.keys() & {"generate", "train"}:
            check_chats(graph.chat_checks())
        asked = planned_wildcards(workflow, CHECKOUT / "scripts/ask_endpoint.py")
        require_keys(graph, {job["round"] for job in asked})
        if runs_on_this_machine(workflow):
            check_temporary_folders()
            if "generate" in inputs:
                check_gpu()
                for base, entry in graph.experiment.models.items():
                    if "path" in entry:
                        check_image_package(Path(entry["path"]), f"models.{base}")
    # `slurm_costs` reads from Snakemake's logs which runs made an experiment.
    logger.info(f"Experiment: {graph.experiment.name}")


#: The progress line of this run, once it is shown.
shown = []


def show_progress():
    """Start the progress line of this run."""
    jobs, sizes = scheduled_jobs(workflow, CHECKOUT / "scripts"), WorkSizes(graph)
    line = ProgressLine(
        works={job.log: sizes.of(job.script, job.wildcards) for job in jobs},
        earlier=lambda: measure_records(read_job_records(Path(paths.logs)).values(), sizes.of),
        state=lambda: RunState(
            *run_counts(workflow), running_gpus(workflow, jobs), finished_logs(workflow, jobs)
        ),
        seconds=line_seconds(os.environ),
    )
    surround_messages(line.room)
    line.start()
    shown.append(line)


def hide_progress():
    """End the progress line, if it is shown."""
    while shown:
        shown.pop().stop()


if is_first_process(workflow) and not is_main_workflow(workflow):
    # Snakemake does not call `onstart` of a module.
    call_before_jobs(workflow, check_run)


onstart:
    run.started(own_locks(workflow), cluster=not runs_on_this_machine(workflow))
    check_run(log)
    if runs_on_this_machine(workflow):
        lift_rate_limit(workflow)
    if line_seconds(os.environ) and not has_quiet_option(workflow):
        show_progress()


onsuccess:
    hide_progress()


onerror:
    hide_progress()
    if reason := run.explain(log):
        logger.error(reason)
