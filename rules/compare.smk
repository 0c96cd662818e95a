"""Finished experiments on one page: `snakemake compare --config 'experiments=[one,other]'`.

The files of the experiments are no inputs. Snakemake would plan the jobs that make them where the
configuration is that of one of these experiments. A parameter has their recorded contents instead,
so that the page is made again when one of them has changed, and nothing else is.
"""


rule compare:
    """Models of several experiments: a table, accuracy against tokens, and pairs of models."""
    input:
        template=page_templates("compare.html.j2"),
    output:
        html=comparison.page,
        models=comparison.models_table,
    log:
        comparison.log,
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("compare"),
        experiments=compared_files,
    message:
        "Comparison of experiments"
    script:
        "../scripts/compare.py"
