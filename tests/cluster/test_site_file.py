"""The site file: what it says of a cluster, and one clear line where it is wrong."""

import copy
import re
from pathlib import Path

import pytest
import yaml

from weak_to_strong.cluster.site_file import (
    cache_variables,
    load_site_schema,
    parse_site,
    read_site,
)
from weak_to_strong.experiment.configuration import ConfigError

EXAMPLE = Path(__file__).parents[2] / "profiles/slurm/site.yaml"
GIVEN = {
    "gpu": {
        "partition": "gpu",
        "model": "a100",
        "memory_gb": 40,
        "per_node": 4,
        "cpus_per_gpu": 16,
        "mem_gb_per_gpu": 62.5,
        "max_nodes": 2,
        "runtime": 600,
    },
    "cpu": {"partition": "short"},
    "account": "project",
    "scratch": "/scratch/me",
}


def changed(key, value):
    site = copy.deepcopy(GIVEN)
    *parents, last = key.split(".") if isinstance(key, str) else [key]
    place = site
    for parent in parents:
        place = place[parent]
    place[last] = value
    return site


def keys(schema, path=()):
    """Dotted names of all keys that hold a value, with their schemas."""
    for key, part in schema["properties"].items():
        if "properties" in part:
            yield from keys(part, (*path, key))
        else:
            yield ".".join((*path, key)), part


def test_the_example_is_right_and_names_every_key():
    site = read_site(EXAMPLE)
    assert (site.gpus_per_node, site.account) == (8, None)
    text = EXAMPLE.read_text(encoding="utf-8")
    names = [name for name, _ in keys(load_site_schema())]
    assert len(names) == 14
    assert all(f"{name.rpartition('.')[2]}:" in text for name in names)


def test_the_schema_describes_every_key():
    """A message about a value ends with the description of its key."""
    schema = load_site_schema()
    parts = [schema, schema["properties"]["gpu"], schema["properties"]["cpu"]]
    assert all(part["description"] for part in [*parts, *dict(keys(schema)).values()])


def test_sizes_are_read_in_bytes_and_minutes():
    site = parse_site(GIVEN, "site")
    assert site.gpu_memory == 40e9
    assert site.node_memory == 250e9
    assert (site.max_runtime, site.cpu_runtime, site.cpu_memory) == (600, 60, 8e9)
    assert (site.gpu_model, site.account, site.scratch) == ("a100", "project", "/scratch/me")


def test_counts_are_whole_numbers():
    assert str(parse_site(changed("gpu.per_node", 4.0), "site").gpus_per_node) == "4"


def test_what_is_optional_may_be_missing_or_empty():
    assert parse_site(changed("account", None), "site").account is None
    del (site := copy.deepcopy(GIVEN))["scratch"]
    assert parse_site(site, "site").scratch is None


GPUS = "Number of GPUs of one node."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed("gpu.per_nod", 4), "`gpu.per_nod`: unknown key; did you mean `per_node`?"),
        (changed("zzz", 4), "`zzz`: unknown key; known keys: account, cpu, gpu, scratch"),
        (changed(2026, 4), "`2026`: unknown key; known keys: "),
        (
            changed("gpu.per_node", "four"),
            f"`gpu.per_node`: 'four' is not a whole number, such as `1`; {GPUS}",
        ),
        (changed("gpu.per_node", 0), f"`gpu.per_node`: 0 is less than the minimum of 1; {GPUS}"),
        (
            changed("gpu.per_node", True),
            f"`gpu.per_node`: true is not a whole number, such as `1`; {GPUS}",
        ),
        (changed("gpu.memory_gb", -1), "`gpu.memory_gb`: -1 is less than or equal to the minimum"),
        (
            changed("gpu.memory_gb", float("inf")),
            "`gpu.memory_gb`: inf is greater than the maximum",
        ),
        (
            changed("gpu.partition", None),
            "`gpu.partition`: null is not text, such as `name`; Name of",
        ),
        (
            changed("account", ""),
            "`account`: is an empty text, and needs a sign; Account that SLURM charges",
        ),
        (
            changed("cpu", "short"),
            "`cpu`: 'short' is not a mapping, such as `{key: value}`; A mapping that ",
        ),
        (changed("gpu", {}), "`gpu.partition`: is missing; add it (see profiles/slurm/site.yaml)"),
        (
            {"cpu": {"partition": "short"}},
            "`gpu`: is missing; add it (see profiles/slurm/site.yaml)",
        ),
        (
            [],
            "`(top level)`: [] is not a mapping, such as `{key: value}`; A mapping with",
        ),
    ],
)
def test_a_wrong_file_is_told_in_one_line(tmp_path, content, message):
    file = tmp_path / "site.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError) as error:
        read_site(file)
    assert str(error.value).startswith(f"{file}: key {message}")
    assert "\n" not in str(error.value)


def test_a_missing_or_garbled_file_is_told_in_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot be read .*W2S_SITE"):
        read_site(tmp_path / "none.yaml")
    (tmp_path / "site.yaml").write_text("gpu: [")
    with pytest.raises(ConfigError, match="is not YAML") as error:
        read_site(tmp_path / "site.yaml")
    assert "\n" not in str(error.value)


def test_variables_in_paths_are_filled_in(tmp_path, monkeypatch):
    """Of the site file's own path, and of the paths in it."""
    (tmp_path / "site.yaml").write_text(yaml.safe_dump({**GIVEN, "scratch": "~/caches"}))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CLUSTER", raising=False)
    for path in ("~/site.yaml", "$HOME/site.yaml", "${HOME}/site.yaml"):
        assert read_site(path).scratch == f"{tmp_path}/caches"
    with pytest.raises(ConfigError) as error:
        read_site("$CLUSTER/site.yaml")
    fix = "the environment variable CLUSTER is not set; set it, or write the whole path"
    assert str(error.value) == f"$CLUSTER/site.yaml: {fix}"
    with pytest.raises(ConfigError) as error:
        parse_site({**GIVEN, "scratch": "/scratch/${CLUSTER}"}, "site")
    assert str(error.value) == f"site: key `scratch`: {fix}"


def test_a_missing_file_is_named_with_the_folder_searched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=re.escape(f"none.yaml (in {tmp_path}): cannot be read")):
        read_site("none.yaml")


def test_caches_lie_below_the_scratch_folder(monkeypatch):
    monkeypatch.setenv("USER", "me")
    site = parse_site({**GIVEN, "scratch": "/scratch/$USER"}, "site")
    folders = cache_variables(site.scratch)
    assert folders["HF_HOME"] == "/scratch/me/huggingface"
    assert len(set(folders.values())) == len(folders)
