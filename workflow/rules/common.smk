# The recipe, its steps, and the functions by which rules find a step's inputs. No torch here: every job parses this.
#
# A step's path says what its inputs are: all inputs are ancient(), and a finished step has none, since Snakemake would
# compare time stamps whatever rerun-triggers are set, and run a step again when one of its inputs is.
import os
import sys
from functools import cache
from inspect import signature
from pathlib import Path

ROOT = Path.cwd()
sys.path.insert(0, str(ROOT / "src"))

from snakemake.exceptions import WorkflowError
from smolmake.errors import UserError
from smolmake.execution.devices import machine_gpus
from smolmake.execution.kinds import KINDS, TARGETS
from smolmake.planning.budget import check_budget
from smolmake.planning.checks import repeat_warnings
from smolmake.planning.plan import make_plan
from smolmake.planning.recipe_names import name_warnings
from smolmake.planning.requests import NAMES, Requests, Site, check_one_machine, own_gpus
from smolmake.planning.workflow import begin_run, check_config, job_environment

os.environ.update(job_environment(ROOT))
config.setdefault("recipe", "toy")
try:
    check_config(config)
    WORKFLOW = begin_run(str(config["recipe"]), ROOT, lambda: outputs_to_make(), lambda: gpus())
except UserError as error:
    raise WorkflowError(str(error)) from None


def environment(kind):
    """The file of the environment in which steps of a kind run."""
    return str(ROOT / "envs" / f"{KINDS[kind].environment}.yaml")


def of_step(function):
    """A function of a step as one of the wildcards that Snakemake calls."""

    def of_wildcards(wildcards):
        return function(WORKFLOW.step(wildcards.step))

    of_wildcards.__signature__ = signature(of_wildcards)  # Snakemake asks for it several times a job: worked out once
    return of_wildcards


def forced():
    """Whether steps are to run again although they are finished (--forceall, --forcerun)."""
    settings = workflow.dag_settings
    return settings is not None and bool(settings.forceall or settings.forcerun)


def role(name):
    """The manifests that a step reads in a role; those whose files are gone are made again, and it waits for them."""

    def manifests(step):
        workflow.dag.forcefiles.update(WORKFLOW.repeated_for(step))
        inputs = WORKFLOW.inputs(step, name, forced())
        return [path if path in again else ancient(path) for path in inputs]

    if again := {f"results/{key}/manifest.json" for key in WORKFLOW.repeated}:
        return of_step(manifests)
    return ancient(of_step(lambda step: WORKFLOW.inputs(step, name, forced())))


def gate(kind):
    """The manifests of a check that a step waits for and does not read."""
    return ancient(of_step(lambda step: WORKFLOW.gates(step, kind, forced())))


def site():
    """What the profile says of the cluster; nothing where jobs run on this machine."""
    settings = workflow.executor_settings
    return Site(getattr(settings, "longest", None), getattr(settings, "gpu_type", None))


@cache
def requests():
    return Requests(WORKFLOW, site())  # known once Snakemake has its executor, which is after it has read this


def request(name):
    """What a step asks of a cluster, from its kind, its layout and its estimated cost."""
    return of_step(lambda step: requests().of(step)[name])


@cache
def gpus():
    """This machine's GPUs for jobs, of which Snakemake then gives out no more: --resources gpus=N, or all there are.

    None where jobs run elsewhere.
    """
    if workflow.resource_settings.nodes is not None if workflow.dryrun else not workflow.local_exec:
        return None
    stated = workflow.global_resources.get("gpus").value
    if stated is None and machine_gpus():
        workflow.register_resource("gpus", len(machine_gpus()))
    return len(machine_gpus()) if stated is None else stated


def outputs_to_make():
    """The outputs of all jobs that Snakemake has found to run."""
    return [str(path) for job in workflow.dag.needrun_jobs() for path in job.output]


def refuse_what_cannot_end():
    """Stop before the first job if the jobs would cost more than the budget leaves, or need nodes that are not here."""
    plan = make_plan(WORKFLOW, outputs_to_make())
    for told in name_warnings(WORKFLOW.recipe.name, WORKFLOW.file, ROOT):
        print(f"warning: {told}.", file=sys.stderr)
    for told in repeat_warnings(WORKFLOW.recipe, WORKFLOW.steps, plan.keys):
        print(f"warning: {told} (an estimate).", file=sys.stderr)
    check_budget(plan, config.get("consent"))
    if gpus() is not None:
        check_one_machine(plan.running, gpus())
