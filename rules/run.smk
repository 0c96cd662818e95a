"""One run: its locks, the checks before its first job, and how it ends."""

import os

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.persistence.file import FilePersistence

from weak_to_strong.experiment.pins import require_pins
from weak_to_strong.jobs.gpus import check_gpu
from weak_to_strong.jobs.locks import Runs, check_times, check_writable, mark_parent
from weak_to_strong.jobs.machine import (
    allow_open_files,
    call_python_by_name,
    check_checkout_path,
    check_temporary_folders,
    name_user,
)
from weak_to_strong.jobs.records import note_command
from weak_to_strong.jobs.snakemake_adapter import (
    FOLDER,
    faults_in_one_line,
    is_first_process,
    is_main_workflow,
    keep_locks_of_others,
    lift_rate_limit,
    own_locks,
    planned_jobs,
    planned_wildcards,
    runs_on_this_machine,
)
from weak_to_strong.models.loading import check_before_jobs
from weak_to_strong.paper.released import find_released

# Scripts end with this process, on whichever machine it is.
mark_parent(os.environ)
name_user(os.environ)
call_python_by_name(os.environ)
note_command(sys.argv)
run = Runs(FOLDER)
if is_first_process(workflow) and is_main_workflow(workflow):
    with faults_in_one_line(WorkflowError):
        # Even a dry run writes there, and would end in a traceback.
        check_writable(FOLDER)
        check_checkout_path(str(workflow.basedir))
        allow_open_files()
        run.enter(unlock="--unlock" in sys.argv)
    keep_locks_of_others(FilePersistence)


onstart:
    # A dry run skips this: the plan of an experiment needs no network, GPU or released data.
    with faults_in_one_line(WorkflowError):
        require_pins(graph.config)
    on_cluster = not runs_on_this_machine(workflow)
    run.started(own_locks(workflow), cluster=on_cluster)
    inputs = planned_jobs(workflow)
    with faults_in_one_line(WorkflowError):
        check_writable(Path(paths.root))
        check_times(path for files in inputs.values() for path in files)
        if "check_released" in inputs:
            find_released(PUBLISHED_DIR)
        new = {job["base"] for job in planned_wildcards(workflow, "base_model")}
        entries = {base: graph.experiment.models[base] for base in sorted(new)}
        check_before_jobs(
            {base: entry["path"] for base, entry in entries.items() if "path" in entry}
        )
        if not on_cluster:
            check_temporary_folders()
            if "generate" in inputs:
                check_gpu()
    if not on_cluster:
        lift_rate_limit(workflow)
    # `slurm_costs` reads from Snakemake's logs which runs made an experiment.
    logger.info(f"Experiment: {graph.experiment.name}")


onerror:
    if reason := run.explain(log):
        logger.error(reason)
