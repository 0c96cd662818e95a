"""The site file: what it says of a cluster, and one clear line where it is wrong."""

import copy
from pathlib import Path

import pytest
import yaml

from weak_to_strong.cluster.site_file import KEYS, cache_variables, parse_site, read_site
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
    *parents, last = key.split(".")
    place = site
    for parent in parents:
        place = place[parent]
    place[last] = value
    return site


def test_the_example_is_right_and_names_every_key():
    site = read_site(EXAMPLE)
    assert (site.gpus_per_node, site.account) == (8, None)
    text = EXAMPLE.read_text(encoding="utf-8")
    assert all(f"{key.rpartition('.')[2]}:" in text for key in KEYS)


def test_sizes_are_read_in_bytes_and_minutes():
    site = parse_site(GIVEN, "site")
    assert site.gpu_memory == 40e9
    assert site.node_memory == 250e9
    assert (site.max_runtime, site.cpu_runtime, site.cpu_memory) == (600, 60, 8e9)
    assert (site.gpu_model, site.account, site.scratch) == ("a100", "project", "/scratch/me")


def test_what_is_optional_may_be_missing_or_empty():
    assert parse_site(changed("account", None), "site").account is None
    del (site := copy.deepcopy(GIVEN))["scratch"]
    assert parse_site(site, "site").scratch is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed("gpu.per_nod", 4), "unknown key `gpu.per_nod`; did you mean `gpu.per_node`?"),
        (changed("zzz", 4), "unknown key `zzz`; known: "),
        (changed("gpu.per_node", "four"), "`gpu.per_node` is 'four'; want a whole number >= 1"),
        (changed("gpu.per_node", 0), "`gpu.per_node` is 0; want a whole number >= 1"),
        (changed("gpu.per_node", True), "`gpu.per_node` is True; want a whole number >= 1"),
        (changed("gpu.memory_gb", -1), "`gpu.memory_gb` is -1; want a number > 0"),
        (changed("gpu.partition", None), "`gpu.partition` is None; want text"),
        (changed("cpu", "short"), "`cpu` is 'short'; want keys below it"),
        ({"cpu": {"partition": "short"}}, "`gpu.partition` is missing; give text"),
        ([], "is no mapping of keys"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(tmp_path, content, message):
    file = tmp_path / "site.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError) as error:
        read_site(file)
    assert str(error.value).startswith(f"{file}: {message}")
    assert "\n" not in str(error.value)


def test_a_missing_or_garbled_file_is_told_in_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot be read .*W2S_SITE"):
        read_site(tmp_path / "none.yaml")
    (tmp_path / "site.yaml").write_text("gpu: [")
    with pytest.raises(ConfigError, match="is no YAML") as error:
        read_site(tmp_path / "site.yaml")
    assert "\n" not in str(error.value)


def test_caches_lie_below_the_scratch_folder(monkeypatch):
    monkeypatch.setenv("USER", "me")
    folders = cache_variables("/scratch/$USER")
    assert folders["HF_HOME"] == "/scratch/me/huggingface"
    assert len(set(folders.values())) == len(folders)
