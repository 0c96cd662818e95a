"""Weak-to-strong reasoning (Yang, Ma, Liu; arXiv 2407.13647), from raw data to the report.

The data flows one way, and so do these files:
raw -> labels -> filter -> SFT -> samples -> pairs -> preference model -> evaluation -> report.
"""

from snakemake.utils import min_version

min_version("9.27")


# A configuration given on the command line stands alone: the demo's settings must not leak into it.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/models.smk"
include: "rules/labels.smk"
include: "rules/stage1.smk"
include: "rules/stage2.smk"
include: "rules/evaluation.smk"
include: "rules/report.smk"
include: "rules/paper.smk"
include: "rules/embedded.smk"
include: "rules/published.smk"
include: "rules/provenance.smk"


rule all:
    default_target: True
    input:
        f"{graph.root}/report/index.html",
    localrule: True
