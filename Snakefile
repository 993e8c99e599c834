# The workflow itself is workflow/Snakefile, where the Snakemake workflow catalog looks for it. An include keeps the
# including file's default target, of which this file has none, so it is named here.
include: "workflow/Snakefile"


workflow.default_target = "all"
