# The recipe, its steps, and the functions by which rules find a step's inputs. No torch here: every job parses this.
#
# All inputs are ancient(). A step's path says what its inputs are, so a manifest that is there is right, and no time
# stamp has a say. Snakemake would compare them whatever rerun-triggers are set.
import sys
from pathlib import Path

ROOT = Path.cwd()
sys.path.insert(0, str(ROOT / "src"))

from snakemake.exceptions import WorkflowError
from smolmake.errors import UserError
from smolmake.plan.graph import plan_recipe, use_environment_of

use_environment_of(sys.executable, ROOT)
config.setdefault("recipe", "toy")
try:
    PLAN = plan_recipe(str(config["recipe"]), ROOT)
except UserError as error:
    raise WorkflowError(str(error)) from None


def inputs_of(kind):
    """An input function: the manifests that the step named by the wildcard reads."""

    def inputs(wildcards):
        return PLAN.inputs(kind, wildcards.step)

    return inputs


def job_of(kind):
    """A params function: the step as JSON, the one argument of its script."""

    def job(wildcards):
        return PLAN.job(kind, wildcards.step)

    return job


def launcher_of(kind):
    """A params function: what starts the step's script on the devices of its layout."""

    def launcher(wildcards):
        return PLAN.launcher(kind, wildcards.step)

    return launcher


def manifests_of(*kinds):
    """The manifests of all of the recipe's steps of these kinds."""
    return PLAN.manifests(*kinds)


def links_of_recipe():
    """The list of links under results/latest/<recipe>, named after the state of all steps."""
    return PLAN.links
