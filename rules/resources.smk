"""Resources of jobs on a cluster, and of GPU jobs on this machine."""

from weak_to_strong.cluster.cluster_jobs import (
    CPU_RESOURCES,
    GENERATION_RESOURCES,
    TRAINING_RESOURCES,
    find_cluster,
)
from weak_to_strong.jobs.gpus import usable_gpus
from weak_to_strong.jobs.snakemake_adapter import offer_gpus
from weak_to_strong.training.settings import most_processes

# None without a cluster: jobs then have the resources that stand in their rules.
with faults_in_one_line(WorkflowError):
    cluster = find_cluster(graph, workflow.resource_settings)
    if cluster and is_first_process(workflow):
        # Also a check: a model that does not fit ends the run here, before any job.
        print("GPU jobs:", cluster.plan(), sep="\n", file=sys.stderr)

# Each GPU job on this machine gets all its GPUs, so these jobs run one after the other.
own_gpus = 0
if cluster is None and runs_on_this_machine(workflow):
    own_gpus = usable_gpus() or 0
if own_gpus:
    offer_gpus(workflow, own_gpus)


def cluster_job(names, resource, local):
    """Resources of a rule.

    Args:
        names: names of the resources that a cluster's site file decides.
        resource: function of name, wildcards and attempt, which gives the value of one of them.
        local: names and values of all resources where there is no cluster.
    """
    if cluster is None:
        return local

    def of_site(name):
        return lambda wildcards, attempt: resource(name, wildcards, attempt)

    return local | {name: of_site(name) for name in names}


def training_job(**local):
    """Resources of `train`."""
    if own_gpus:
        local["gpu"] = own_gpus
        local["processes"] = lambda wildcards: most_processes(
            graph.training_settings(node_of(wildcards)), own_gpus
        )

    def resource(name, wildcards, attempt):
        return cluster.gpu_resource(name, cluster.training(node_of(wildcards), attempt))

    return cluster_job(TRAINING_RESOURCES, resource, local)


def generation_job(**local):
    """Resources of `generate`."""
    if own_gpus:
        local["gpu"] = own_gpus

    def resource(name, wildcards, attempt):
        needs = cluster.generation(graph.round(wildcards.round), attempt)
        return cluster.gpu_resource(name, needs)

    return cluster_job(GENERATION_RESOURCES, resource, local)


def cpu_job(**local):
    """Resources of jobs that take minutes of CPU, which is too much for a login node.

    Rules that take seconds are local ones instead: as jobs of a cluster they would mostly wait.
    """

    def resource(name, wildcards, attempt):
        return cluster.cpu_resource(name, attempt)

    return cluster_job(CPU_RESOURCES, resource, local)
