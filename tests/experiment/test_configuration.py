"""The configuration's schema, defaults and one-line refusals."""

import json
import shutil
from copy import deepcopy
from dataclasses import asdict

import pytest
import yaml

from weak_to_strong.experiment.configuration import (
    SCHEMA_FILE,
    ConfigError,
    check_references,
    check_schema,
    complete,
    load_configuration,
    load_schema,
)
from weak_to_strong.experiment.pins import require_pins, unpinned
from weak_to_strong.method.answers import PAPER
from weak_to_strong.method.pairs import PairSettings

ROOT = SCHEMA_FILE.parents[1]


@pytest.fixture
def demo(monkeypatch):
    monkeypatch.chdir(ROOT)
    return yaml.safe_load((ROOT / "config/config.yaml").read_text())


def change(config, path, value):
    """A copy of `config` with one key set (or, for ..., deleted)."""
    changed = deepcopy(config)
    *parents, last = path.split(".")
    place = changed
    for key in parents:
        place = place.setdefault(key, {}) if isinstance(place, dict) else place[int(key)]
    if value is ...:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    return changed


def leaves(schema, path=()):
    """(path, schema) of every key that the schema knows."""
    for key, part in schema.get("properties", {}).items():
        yield (*path, key), part
        yield from leaves(part, (*path, key))
    for key, part in schema.get("$defs", {}).items():
        yield from leaves(part, (*path, "$defs", key))


def stray_keys(value):
    """Keys without a value: what YAML makes of a description with a comma and no quotes."""
    if isinstance(value, dict):
        yield from (key for key, part in value.items() if part is None and key != "default")
        value = [part for key, part in value.items() if key != "default"]
    for part in value:
        if isinstance(part, dict | list):
            yield from stray_keys(part)


def test_every_key_of_the_schema_is_described():
    schema = load_schema()
    undescribed = [
        ".".join(path)
        for path, part in leaves(schema)
        if "description" not in {**schema["$defs"].get(part.get("$ref", "")[8:], {}), **part}
    ]
    assert undescribed == []
    assert list(stray_keys(schema)) == []


@pytest.mark.parametrize("file", sorted((ROOT / "config").rglob("*.yaml")), ids=lambda f: f.name)
def test_shipped_configurations_fit_the_schema(file):
    config = yaml.safe_load(file.read_text())
    if "experiment" not in config:
        pytest.skip("not an experiment of its own")
    assert complete(config)["experiment"] == config["experiment"]


def test_defaults_are_the_papers(demo):
    config = complete({key: demo[key] for key in ("experiment", "tasks", "models", "chains")})
    assert config["pairs"]["min_confidence"] == 0.6
    assert config["pairs"]["weak_rejected_confidence"] == 0.8
    assert config["sampling"] == {"n": 10, "temperature": 1.0, "top_p": 1.0}
    assert config["demonstrations"]["count"] == 4
    assert config["methods"]["hybrid_ft"]["data"] == "kept_hybrid"


def test_given_keys_win_over_defaults_key_by_key(demo):
    config = complete(change(demo, "methods", {"dpo_tau": {"stage": "stage2"}, "orpo": None}))
    assert "orpo" not in config["methods"]
    assert config["methods"]["dpo"]["trainer"] == "dpo"
    sft = complete(change(demo, "training.sft.lora", {"r": 3}))["training"]["sft"]
    assert sft["lora"]["r"] == 3
    assert sft["lora"]["dropout"] == 0.0
    assert sft["max_length"] == demo["training"]["sft"]["max_length"]


def test_numbers_that_the_command_line_hands_over_as_text_are_read(demo):
    config = change(change(demo, "seeds", ["0", "1"]), "training.sft.learning_rate", "1e-4")
    completed = complete(config)
    assert completed["seeds"] == [0, 1]
    assert completed["training"]["sft"]["learning_rate"] == 1e-4
    # YAML reads `1e3` as text.
    assert complete(change(demo, "seeds", ["1e3", "1234567"]))["seeds"] == [1000, 1234567]
    # Keys that may be null, and entries that may.
    steps = complete(change(demo, "training.sft.max_steps", "1e3"))["training"]["sft"]["max_steps"]
    assert steps == 1000
    assert isinstance(steps, int)
    dpo = {**complete(demo)["methods"]["dpo"], "training": {"learning_rate": "1e-4"}}
    read = complete(change(demo, "methods.dpo", dpo))["methods"]["dpo"]
    assert read["training"] == {"learning_rate": 1e-4}
    # A value of any type stays as it is.
    chat = complete(change(demo, "tasks.gsm_embedded.chat", {"options": {"name": "1e-4"}}))
    assert chat["tasks"]["gsm_embedded"]["chat"]["options"] == {"name": "1e-4"}
    with pytest.raises(ConfigError, match=r"'1\.5e0' is not a whole number"):
        complete(change(demo, "seeds", ["1.5e0"]))


def test_every_quirk_is_a_key_and_on_by_default(demo):
    config = complete(change(demo, "tasks.gsm_embedded.quirks", {"row_breaks": False}))
    quirks = config["tasks"]["gsm_embedded"]["quirks"]
    assert quirks == {**asdict(PAPER), "row_breaks": False}


def test_the_settings_of_pairs_are_the_keys_of_the_schema_with_their_defaults():
    assert load_schema()["properties"]["pairs"]["default"] == asdict(PairSettings())
    assert (
        set(load_schema()["$defs"]["pair_settings"]["properties"]) == asdict(PairSettings()).keys()
    )


@pytest.mark.parametrize(
    ("changes", "judge", "stop", "kept"),
    [
        ({"extraction": "paper"}, "string", ["Question", "Answer"], True),
        ({}, "math", ["\nQuestion:"], False),
        ({"prompt": "olympicarena"}, "olympicarena", ["\nQuestion:"], False),
        ({"judge": "string", "stop": ["X"]}, "string", ["X"], False),
    ],
)
def test_defaults_of_reading_depend_on_the_extraction(demo, changes, judge, stop, kept):
    entry = demo["tasks"]["gsm_embedded"]
    for key in ("extraction", "stop"):
        entry.pop(key)
    entry |= changes
    task = complete(demo)["tasks"]["gsm_embedded"]
    assert (task["judge"], task["stop"]) == (judge, stop)
    released_judge = task["quirks"].pop("released_judge")
    assert released_judge is False
    assert set(task["quirks"].values()) == {kept}
    entry["quirks"] = {"last_equals": not kept}
    quirks = complete(demo)["tasks"]["gsm_embedded"]["quirks"]
    assert quirks == {**task["quirks"], "last_equals": not kept, "released_judge": False}


def test_completing_twice_changes_nothing(demo):
    once = complete(demo)
    assert complete(once) == once


REFUSED = {
    "experimnt": ("x", "did you mean `experiment`?"),
    "pairs.min_confidense": (0.5, "did you mean `min_confidence`?"),
    "pairs.min_confidence": (1.5, "maximum of 1"),
    "pairs.weak_rejected_confidence": (0.1, "below min_confidence"),
    "iterations": (0, "less than the minimum of 1"),
    "seeds": (["one"], "is not a whole number"),
    "seeds.0": (-1, "minimum"),
    "experiment": ("../x", "does not match"),
    "models.tiny_weak": ({"path": "nowhere"}, "nowhere"),
    "models.tiny_weak.revision": ("main", "revision"),
    "chains.0.task": ("gsm9k", "unknown task `gsm9k`"),
    "chains.0.weak": ("tiny", "unknown weak `tiny`"),
    "tasks.gsm_embedded.loader": ("csv", "is not one of"),
    "tasks.gsm_embedded.prompt": ("olympicarena", "needs answer types; name their column"),
    "tasks.gsm_embedded.templates": (..., "list numbers of templates"),
    "tasks.gsm_embedded.form": ("math", "`####` is in no solution of form `math`; set it to"),
    "tasks.gsm_embedded.quirks": ({"dfrac_distinkt": False}, "did you mean `dfrac_distinct`?"),
    "tasks.gsm_embedded.quirks.ft_units": (1, "1 is not `true` or `false`"),
    "tasks.gsm_embedded.splits": (..., "is missing"),
    "tasks.gsm_embedded.splits.test": (0, "0 is less than the minimum of 1; A size"),
    "tasks.gsm_embedded.splits.validation": ({"pth": "x"}, "A size, drawn from"),
    "tasks.gsm_embedded.pool": ({"url": "https://x/y"}, "'sha256' is a dependency of 'url'"),
    "tasks.gsm_embedded.splits.train_2": (..., "is missing"),
    "training.sft.learning_rate": ("fast", "is not a number, such as"),
    "training.sft.global_batch_size": (10, "not a multiple"),
    "methods": ({"weak_ft": None}, "cannot be removed"),
    "methods.new": ({"stage": "stage2", "start": "strong"}, "methods.new.trainer"),
    "methods.dpo": ({"data": "weak_labels"}, "train on `pairs`"),
    "methods.orpo": ({"start": "strong"}, "set it to m_plus"),
    "methods.ceiling": ({"few_shot": True}, "need a weak and a strong model"),
    "training.sft.deepspeed": ("none.json", "no such file: none.json"),
    "methods.full_weak": ({"per_iteration": True}, "per_iteration"),
    "evaluation.ks": ([1, 99], "exceeds evaluation.samples"),
    "evaluation": ({"ks": []}, "evaluation.ks"),
    "evaluation.split": ("train_1", "is not one of"),
    "engine.max_model_len": (64, "leaves no room"),
    "engine": ({"max_model_len": 1025}, "exceeds the 1024 tokens that model `tiny_weak`"),
    "demonstrations.count": (0, "minimum"),
    "sampling.n": (1, "minimum"),
}


@pytest.mark.parametrize("path", REFUSED)
def test_bad_configuration_is_refused_in_one_line(demo, path):
    value, expected = REFUSED[path]
    with pytest.raises(ConfigError) as caught:
        load_configuration(change(demo, path, value))
    message = str(caught.value)
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize("indent", ["  ", "\t"])
def test_a_key_that_stands_twice_in_a_deepspeed_file_is_refused(demo, tmp_path, indent):
    """JSON's parser would take the last one."""
    file = tmp_path / "zero.json"
    lines = ("{", '"zero_optimization": {', '"stage": 2,', '"stage": 3', "}", "}")
    file.write_text(f"\n{indent}".join(lines))
    with pytest.raises(ConfigError) as caught:
        load_configuration(change(demo, "training.sft.deepspeed", str(file)))
    assert str(caught.value) == (
        f"config key `training.sft.deepspeed`: {file}: the key `stage` stands twice, in lines 3 "
        "and 4; remove one of them"
    )


def test_form_authors_refuses_a_template_without_solutions(demo):
    templates = demo["tasks"]["gsm_embedded"]["templates"]
    load_configuration(demo)
    with pytest.raises(ConfigError, match="template 7 has no solutions in form `authors`; take"):
        load_configuration(change(demo, "tasks.gsm_embedded.templates", [*templates, 7]))


def test_gold_rows_may_be_shorter_than_the_longest_answer(demo):
    load_configuration(change(demo, "methods", {"weak": {"training": {"max_length": 100}}}))


def test_a_number_that_python_cannot_write_is_refused(demo):
    for path, value in {"seeds": [10**5000], "tasks": {10**5000: {}}}.items():
        with pytest.raises(ConfigError, match="number of more than 64 bits"):
            load_configuration(change(demo, path, value))


def test_a_long_key_is_not_said_in_full(demo):
    with pytest.raises(ConfigError, match="too long") as caught:
        load_configuration(change(demo, "training.sft", {"k" * 300_000: 1}))
    assert len(str(caught.value)) < 200


def test_each_entry_of_a_list_is_looked_at_a_few_times_only(demo):
    """Not against each other one: a list may have thousands."""
    looks = 0

    class Watched(dict):
        def __len__(self):
            nonlocal looks
            looks += 1
            return super().__len__()

    seeds = [Watched(a=number) for number in range(200)]
    with pytest.raises(ConfigError, match="is not a whole number"):
        check_schema(change(demo, "seeds", []) | {"seeds": seeds})
    assert looks < 10 * len(seeds)


def test_a_file_of_a_model_that_snakemake_would_fill_in(demo, tmp_path):
    """A file that is no part of the model is no input, whatever its name."""
    folder = tmp_path / "model"
    shutil.copytree(ROOT / demo["models"]["tiny_weak"]["path"], folder)
    config = change(demo, "models.tiny_weak.path", str(folder))
    (folder / "{base}.json").write_text("{}")
    load_configuration(config)
    weights = (folder / "model.safetensors").rename(folder / "{base}.safetensors")
    header = weights.read_bytes()[8 : 8 + int.from_bytes(weights.read_bytes()[:8], "little")]
    names = [name for name in json.loads(header) if name != "__metadata__"]
    index = json.dumps({"weight_map": dict.fromkeys(names, weights.name)})
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ConfigError, match=r"\{base\}\.safetensors"):
        load_configuration(config)


PIN = {"sha256": "0" * 64}
COMMIT = {"revision": "0" * 40}


@pytest.mark.parametrize(
    ("source", "fits"),
    [
        ({"path": "x"}, True),
        ({"url": "x", **PIN}, True),
        ({"hub": "x", "file": "y", **COMMIT}, True),
        ({"hub": "x", "file": "y", **COMMIT, **PIN}, True),
        ({}, False),
        (PIN, False),
        ({"path": "x", **PIN}, False),
        ({"path": "x", "url": "y", **PIN}, False),
        ({"url": "x"}, False),
        ({"url": "x", "hub": "x", "file": "y", **COMMIT, **PIN}, False),
        ({"hub": "x", **COMMIT}, False),
        ({"hub": "x", "file": "y"}, False),
        ({"file": "y", **COMMIT}, False),
    ],
)
def test_a_source_is_of_one_kind_and_pinned(demo, source, fits):
    for key in ("pool", "splits.test"):
        config = change(demo, f"tasks.gsm_embedded.{key}", source)
        if fits:
            complete(config)
        else:
            with pytest.raises(ConfigError):
                complete(config)


def test_the_demo_configuration_passes(demo):
    config = complete(demo)
    check_references(config)
    assert load_configuration(demo) == config


def test_validation_split_must_exist_to_evaluate_on(demo):
    config = change(demo, "evaluation.split", "validation")
    del config["tasks"]["gsm_embedded"]["splits"]["validation"]
    with pytest.raises(ConfigError, match="no validation split"):
        load_configuration(config)


def test_a_null_pin_is_enough_for_a_plan_but_not_for_a_run(demo):
    task = {
        "loader": "gsm8k",
        "max_tokens": 96,
        "splits": {
            "train_1": {"url": "https://example.org/a.jsonl", "sha256": None},
            "train_2": [{"hub": "owner/data", "revision": None, "file": "b.jsonl"}],
            "test": {"url": "https://example.org/c.jsonl", "sha256": "0" * 64},
        },
    }
    models = {**demo["models"], "large": {"hub": "owner/large", "revision": None}}
    chain = {"task": "remote", "weak": "tiny_weak", "strong": "large"}
    config = load_configuration(
        {**demo, "tasks": {"remote": task}, "models": models, "chains": [chain]}
    )
    assert unpinned(config) == [
        "models.large.revision",
        "tasks.remote.splits.train_1.sha256",
        "tasks.remote.splits.train_2.0.revision",
    ]
    message = r"`models.large.revision`: is null \(and 2 more"
    with pytest.raises(ConfigError, match=message) as raised:
        require_pins(config)
    assert "\n" not in str(raised.value)
    require_pins(load_configuration(demo))
