"""Weak-to-strong reasoning (Yang, Ma, Liu; arXiv 2407.13647), from raw data to the report.

The data flows one way, and so do these files:
raw -> labels -> filter -> SFT -> samples -> pairs -> preference model -> evaluation -> report.
"""

import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")

# Not `workflow.basedir`, which is another workflow's folder where that one has this as a module.
CHECKOUT = Path(workflow.current_basedir)
# Snakemake has put the folder of this file there, from which nothing is imported: it is mostly the
# working folder, where a user's `polars.py` would shadow a module of the same name.
others = [path for path in sys.path if Path(path).resolve() != CHECKOUT.resolve()]
sys.path[:] = [str(CHECKOUT / "scripts"), *others]

from weak_to_strong.jobs.snakemake_adapter import has_configfile_option, take_prefix

PREFIX = take_prefix(workflow)

# A configuration given on the command line stands alone: the demo's settings must not leak into it.
if not has_configfile_option(workflow):

    configfile: "config/config.yaml"


include: "rules/run.smk"
include: "rules/common.smk"
include: "rules/resources.smk"
include: "rules/data.smk"
include: "rules/models.smk"
include: "rules/labels.smk"
include: "rules/stage1.smk"
include: "rules/selections.smk"
include: "rules/stage2.smk"
include: "rules/evaluation.smk"
include: "rules/report.smk"
include: "rules/compare.smk"
include: "rules/paper.smk"
include: "rules/embedded.smk"
include: "rules/published.smk"
include: "rules/provenance.smk"
include: "rules/upload.smk"


rule all:
    default_target: True
    input:
        paths.page,
    localrule: True
