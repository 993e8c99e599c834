# The recipe, its steps, and the functions by which rules find a step's inputs. No torch here: every job parses this.
#
# All inputs are ancient(), and a finished step has none. A step's path says what its inputs are, so a manifest that is
# there is right, and no time stamp has a say. Snakemake would compare them whatever rerun-triggers are set, and run a
# step again when one of its inputs is.
import sys
from inspect import signature
from pathlib import Path

ROOT = Path.cwd()
sys.path.insert(0, str(ROOT / "src"))

from smolmake.planning.requests import Requests, Site, check_one_machine
from smolmake.planning.workflow import begin_run, check_config, use_environment_of
from smolmake.planning.plan import check_budget, make_plan
from smolmake.planning.epoch_estimates import repeat_warnings

use_environment_of(sys.executable, ROOT)
config.setdefault("recipe", "toy")
check_config(config)
WORKFLOW = begin_run(str(config["recipe"]), ROOT, lambda: outputs_to_make())


def forced():
    """Whether steps are to run again although they are finished (--forceall, --forcerun)."""
    settings = workflow.dag_settings
    return settings is not None and bool(settings.forceall or settings.forcerun)


def inputs_of(kind):
    """An input function: the manifests that the step named by the wildcard reads."""

    def inputs(wildcards):
        return WORKFLOW.inputs(kind, wildcards.step, forced())

    inputs.__signature__ = signature(inputs)  # Snakemake asks for it several times a job: worked out once
    return inputs


def job_of(kind):
    """A params function: the step as JSON, the one argument of its script."""

    def job(wildcards):
        return WORKFLOW.job(kind, wildcards.step)

    job.__signature__ = signature(job)
    return job


def launcher_of(kind):
    """A params function: what starts the step's script on the devices of its layout."""

    def launcher(wildcards):
        return WORKFLOW.launcher(kind, wildcards.step)

    return launcher


def site():
    """What the profile says of the cluster; nothing where jobs run on this machine."""
    settings = workflow.executor_settings
    return Site(getattr(settings, "longest", None), getattr(settings, "gpu_type", None))


def resource_of(kind, name, mem_mb=2000, runtime=240):
    """A resources function: what the step asks of a cluster, from its layout and its estimated cost."""

    def resource(wildcards):
        return REQUESTS.of(WORKFLOW.step(kind, wildcards.step), mem_mb, runtime)[name]

    resource.__signature__ = signature(resource)
    return resource


def devices_of(kind, mem_mb, runtime):
    """All that a step asks of a cluster, for a rule's resources."""
    names = ("nodes", "gres", "mpi", "tasks", "tasks_per_node", "tasks_per_gpu", "cpus_per_task", "mem_mb", "runtime")
    return {name: resource_of(kind, name, mem_mb, runtime) for name in names}


def manifests_of(*kinds):
    """The manifests of all of the recipe's steps of these kinds."""
    return WORKFLOW.manifests(*kinds)


def all_of_recipe():
    """Every result of the recipe, and the list of links to them under results/latest/<recipe>."""
    return [WORKFLOW.links, *WORKFLOW.manifests()]


REQUESTS = Requests(WORKFLOW, site())


def outputs_to_make():
    """The outputs of all jobs that Snakemake has found to run."""
    return [str(path) for job in workflow.dag.needrun_jobs() for path in job.output]


def refuse_what_cannot_end():
    """Stop before the first job if the jobs would cost more than the budget leaves, or need nodes that are not here."""
    plan = make_plan(WORKFLOW, outputs_to_make())
    for told in repeat_warnings(WORKFLOW, plan.keys):
        print(f"warning: {told} (an estimate).", file=sys.stderr)
    check_budget(plan, config.get("consent"))
    if workflow.local_exec:
        check_one_machine(plan.running)
