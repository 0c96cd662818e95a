"""Data sets in the layout of the Hub: local copies, the cache of huggingface_hub, and a server."""

from __future__ import annotations

import json
import shutil

import huggingface_hub
import pytest
from hub_server import serve_data_sets
from hub_sets import COMMIT, cache_data_set, gsm8k_rows, write_data_set

from weak_to_strong.data.hub_layout import find_split_files
from weak_to_strong.data.readers import read_rows
from weak_to_strong.data.sources import check_remote, fetch_source

KEY = "tasks.t.splits.test"
GSM8K = {"hub": "openai/gsm8k", "revision": COMMIT, "config": "main", "split": "train"}
FILES = {
    "main/train-00000-of-00002.parquet": gsm8k_rows(5),
    "main/train-00001-of-00002.parquet": gsm8k_rows(3, first=5),
    "main/test-00000-of-00001.parquet": gsm8k_rows(4, first=100),
    "socratic/test-00000-of-00001.parquet": gsm8k_rows(2, first=200),
}
CONFIGS = {
    "main": {"train": "main/train-*", "test": "main/test-*"},
    "socratic": {"test": "socratic/test-*"},
}
PARTS = ["main/train-00000-of-00002.parquet", "main/train-00001-of-00002.parquet"]


@pytest.fixture
def copy(tmp_path):
    """A local copy of a data set."""
    return write_data_set(tmp_path / "gsm8k", FILES, CONFIGS)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of huggingface_hub, which has no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.fixture
def hub(tmp_path, copy, monkeypatch):
    """A server with two data sets, of which one is gated, and an empty cache."""
    folders = {"openai/gsm8k": copy, "org/gated": copy}
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with serve_data_sets(folders, COMMIT, frozenset({"org/gated"})) as address:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        for module in (huggingface_hub.constants, huggingface_hub.file_download):
            name = "HUGGINGFACE_CO_URL_TEMPLATE"
            monkeypatch.setattr(module, name, template, raising=False)
        yield address


def refusal(call, *arguments) -> str:
    with pytest.raises(ValueError, match=r"\w") as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_files_of_a_split_by_the_card(copy):
    assert find_split_files(copy, "main", "train") == (PARTS, 0)
    names, _ = find_split_files(copy, "socratic", "test")
    assert names == ["socratic/test-00000-of-00001.parquet"]


def test_files_of_a_split_by_their_names(tmp_path):
    """MATH-500 has one file and no list of configurations."""
    folder = write_data_set(tmp_path / "m", {"test.jsonl": [{"problem": "1+1", "answer": "2"}]})
    for config in (None, "default"):
        assert find_split_files(folder, config, "test") == (["test.jsonl"], 0)


@pytest.mark.parametrize(
    ("config", "split", "message"),
    [
        (None, "train", "has several configurations; set `config` to one of main, socratic"),
        ("mian", "train", "has no configuration `mian`; it has main, socratic"),
        ("main", "tst", "has no split `tst` of `main`; it has test, train"),
    ],
)
def test_a_wrong_configuration_or_split_is_one_line_with_those_there(copy, config, split, message):
    assert refusal(find_split_files, copy, config, split) == message


def test_a_missing_part_is_named(copy):
    (copy / PARTS[1]).unlink()
    assert refusal(find_split_files, copy, "main", "train") == (
        f"lacks the file {PARTS[1]}; complete the copy"
    )


def test_a_split_of_the_card_without_files_is_refused(copy):
    shutil.rmtree(copy / "socratic")
    assert "socratic" in refusal(find_split_files, copy, "socratic", "test")
    assert find_split_files(copy, "main", "train") == (PARTS, 0)


@pytest.mark.parametrize("name", ["data/train.pkl", "train.py", "notes.bin"])
def test_neither_pickles_nor_scripts_are_data(tmp_path, name):
    path = tmp_path / "set" / name
    path.parent.mkdir(parents=True)
    path.write_text("raise SystemExit('was run')")
    assert "is no data set" in refusal(find_split_files, tmp_path / "set", None, "train")


def test_a_script_beside_the_data_does_not_run(copy):
    (copy / "loader.py").write_text("raise SystemExit('was run')")
    assert find_split_files(copy, "main", "train") == (PARTS, 0)
    (copy / "gsm8k.py").write_text("raise SystemExit('was run')")
    message = refusal(find_split_files, copy, "main", "train")
    assert "scripts are no longer supported" in message


def test_another_format_is_refused_with_the_fix(tmp_path):
    write_data_set(tmp_path / "set", {"train.arrow": [{"a": 1}]})
    message = refusal(find_split_files, tmp_path / "set", None, "train")
    assert message.startswith("has the file train.arrow: its name ends in none of")
    assert "to_parquet" in message


def test_a_split_from_the_cache_without_a_network(cache, tmp_path, caplog):
    cache_data_set(cache, "openai/gsm8k", FILES, configs=CONFIGS)
    check_remote(GSM8K, KEY)
    assert "files in the cache are taken for all there are: cannot fetch" in caplog.text
    fetch_source(GSM8K, tmp_path / "rows.jsonl", KEY)
    assert read_rows(tmp_path / "rows.jsonl") == gsm8k_rows(8)


def test_a_cache_hides_no_error_of_the_program(cache, monkeypatch):
    def fail(*_, **__):
        raise TypeError("called with something else")

    cache_data_set(cache, "openai/gsm8k", FILES, configs=CONFIGS)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", fail)
    with pytest.raises(TypeError, match="called with something else"):
        check_remote(GSM8K, KEY)


def test_a_file_from_the_cache_without_a_network(cache, tmp_path):
    cache_data_set(cache, "openai/gsm8k", FILES)
    entry = {"hub": "openai/gsm8k", "revision": COMMIT, "file": PARTS[0]}
    check_remote(entry, KEY)
    fetch_source(entry, tmp_path / "part.parquet", KEY)
    assert read_rows(tmp_path / "part.parquet") == gsm8k_rows(5)


@pytest.mark.parametrize(
    "change", [{"hub": "openai/other"}, {"revision": "1" * 40}], ids=["data set", "revision"]
)
def test_what_the_cache_lacks_is_one_line_without_a_network(cache, change):
    cache_data_set(cache, "openai/gsm8k", FILES, configs=CONFIGS)
    message = refusal(check_remote, GSM8K | change, KEY)
    assert message.startswith(f"{KEY}: split `train`: cannot fetch ")
    assert "name it by `path`" in message


def test_a_wrong_number_of_rows_is_found(cache, tmp_path):
    """What the card says of a split counts, as it does for `datasets`."""
    splits = [{"name": "train", "num_examples": 9, "num_bytes": 1}]
    info = {"config_name": "main", "splits": splits}
    cache_data_set(cache, "openai/gsm8k", FILES, configs=CONFIGS, dataset_info=[info])
    message = refusal(fetch_source, GSM8K, tmp_path / "rows.jsonl", KEY)
    assert "split `train` has 8 rows and its card names 9" in message
    assert not (tmp_path / "rows.jsonl").exists()


def test_values_that_json_lacks(cache, tmp_path):
    from datetime import date
    from decimal import Decimal

    rows = [
        {"question": "Q", "answer": Decimal("1.50"), "picture": b"\x00", "day": date(2026, 1, 2)}
    ]
    cache_data_set(cache, "org/set", {"train.parquet": rows})
    fetch_source({"hub": "org/set", "revision": COMMIT, "split": "train"}, tmp_path / "a.jsonl")
    (row,) = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
    assert row == {"question": "Q", "answer": "1.50", "picture": None, "day": None}


def test_a_split_from_a_server(hub, tmp_path):
    check_remote(GSM8K, KEY)
    fetch_source(GSM8K, tmp_path / "rows.jsonl", KEY)
    assert read_rows(tmp_path / "rows.jsonl") == gsm8k_rows(8)
    assert [path.name for path in tmp_path.glob(".hub-*")] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hub": "org/gated"}, "org/gated is gated: accept its terms on the Hub"),
        ({"hub": "org/absent"}, "org/absent is not on the Hub, or is private"),
        ({"revision": "1" * 40}, f"openai/gsm8k has no revision {'1' * 40}"),
        ({"config": "mian"}, "has no configuration `mian`; it has main, socratic"),
        ({"split": "tset"}, "has no split `tset` of `main`; it has test, train"),
    ],
)
def test_what_a_server_refuses_is_one_line_before_any_job(hub, change, message):
    assert message in refusal(check_remote, GSM8K | change, KEY)


def test_a_missing_file_on_a_server(hub):
    entry = {"hub": "openai/gsm8k", "revision": COMMIT, "file": "main/absent.parquet"}
    assert "no such file in openai/gsm8k" in refusal(check_remote, entry, KEY)
