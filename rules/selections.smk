"""Answers, selections and preference pairs that the configuration names, beside the paper's."""


rule answers:
    """Read the answers of an entry of `answers`."""
    input:
        generations=lambda wildcards: graph.answer_generations(
            chain_of(wildcards), wildcards.answers
        ),
    output:
        answers=paths.answers,
    log:
        paths.log("answers", "{chain}/{answers}"),
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("answers"),
        answer_key=task_setting("answer_key"),
        stop=task_setting("stop"),
        extraction=task_setting("extraction"),
        quirks=task_setting("quirks"),
        answer_after=task_setting("answer_after"),
        judge=judge,
    message:
        "Answers {wildcards.answers}: {wildcards.chain}"
    script:
        "../scripts/answers.py"


rule selection:
    """Choose questions of train_2 and an answer to each."""
    input:
        unpack(lambda wildcards: graph.selection_inputs(chain_of(wildcards), wildcards.selection)),
        questions=questions,
        # Its digest tells a changed function from a changed comment.
        function=lambda wildcards: ancient(function_files(selection_of(wildcards).function)),
    output:
        selected=paths.selected,
        summary=paths.selected_summary,
    log:
        paths.log("selection", "{chain}/{selection}"),
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("selection"),
        function_code=lambda wildcards: function_code(selection_of(wildcards).function),
        settings=lambda wildcards: selection_of(wildcards).settings,
        # Snakemake takes the same inputs in another order for the same.
        order=lambda wildcards: selection_of(wildcards).answers,
        seed=lambda wildcards: chain_of(wildcards).seed,
        judge=judge,
    message:
        "Selection {wildcards.selection}: {wildcards.chain}"
    script:
        "../scripts/selection.py"


rule preferences:
    """Build preference pairs of a selection and of answers, or with a function of the user's."""
    input:
        unpack(
            lambda wildcards: graph.preference_inputs(chain_of(wildcards), wildcards.preferences)
        ),
        questions=questions,
        # Its digest tells a changed function from a changed comment.
        function=lambda wildcards: ancient(function_files(preferences_of(wildcards).function)),
    output:
        pairs=paths.preferred,
        export=paths.preferred_export,
    log:
        paths.log("preferences", "{chain}/{preferences}"),
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("preferences"),
        function=lambda wildcards: preferences_of(wildcards).function,
        function_code=lambda wildcards: function_code(preferences_of(wildcards).function),
        settings=lambda wildcards: preferences_of(wildcards).settings,
        shuffled=lambda wildcards: preferences_of(wildcards).shuffled,
        weighted=lambda wildcards: preferences_of(wildcards).weighted,
        # Snakemake takes the same inputs in another order for the same.
        order=lambda wildcards: graph.preference_answers(wildcards.preferences),
        seed=lambda wildcards: chain_of(wildcards).seed,
        prompt=task_setting("prompt"),
        reasoning=task_setting("reasoning"),
        judge=judge,
    message:
        "Preferences {wildcards.preferences}: {wildcards.chain}"
    script:
        "../scripts/preferences.py"
