"""`make clean-work` removes what it should, whatever stands in the files that it reads."""

import json
import os
import shutil
from pathlib import Path

import pytest

from weak_to_strong.jobs.clean_work import main
from weak_to_strong.tables.files import publish, publish_folder

KEY = "0123456789abcdef" * 4


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A finished experiment whose request has a shard in the store, and a folder outside."""
    files = {
        "project/results/a/report/index.html": "",
        "project/results/a/generations/evaluation/test.json": json.dumps({"r": {"key": KEY}}),
        f"project/results/store/requests/{KEY}/shard-000000.parquet": "12345",
        f"project/results/store/requests/{'f' * 64}/shard-000000.parquet": "unfinished",
        "project/results/store/training/abc/checkpoint-2/optimizer.pt": "unfinished",
        "project/results/store/models/abc.json": "a note",
        "precious/file": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def list_all(project: Path) -> list[str]:
    return sorted(str(path) for path in project.parent.rglob("*") if ".snakemake" not in str(path))


def test_shards_of_finished_experiments_go(project, capsys):
    before = list_all(project)
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("1 work folders and torn files removed")
    shard = project / f"results/store/requests/{KEY}"
    assert {*before} - {*list_all(project)} == {str(shard), f"{shard}/shard-000000.parquet"}


def test_views_of_models_go_and_the_models_stay(project, capsys):
    model = project.parent / "precious/file"
    model.write_text("weights" * 1_000_000)
    view = project / "results/store/views" / KEY[:16]
    view.mkdir(parents=True)
    (view / "file").symlink_to(model)
    assert main([]) == 0
    assert "1 work folders and torn files removed, 0.0 MB" in capsys.readouterr().out
    assert not view.exists()
    assert model.stat().st_size == 7_000_000


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"r": {"key": key}})
        for key in (
            "../../../../precious",
            "",
            ".",
            "/tmp",
            KEY[1:],
            KEY.upper(),
            f"{KEY}\n",
            None,
            [],
        )
    ]
    + [json.dumps({"r": {"key": KEY}, "s": {}}), '{"r": {"key": "01', "[]", '{"r": 1}', "\0"],
)
def test_a_file_that_names_no_requests_is_told_and_nothing_is_removed(project, capsys, content):
    stats = project / "results/a/generations/evaluation/test.json"
    stats.write_text(content)
    before = list_all(project)
    assert main([]) == 1
    message = capsys.readouterr().err
    assert message.startswith("results/a/generations/evaluation/test.json: ")
    assert message.endswith("; delete the file and run again\n")
    assert message.count("\n") == 1
    assert list_all(project) == before
    assert main(["--all"]) == 0
    assert not any((project / "results/store").glob("*/*"))
    assert (project.parent / "precious/file").exists()


def test_torn_files_go_and_those_of_living_jobs_stay(project, capsys):
    results = project / "results"
    kept = [
        results / "a/bases/.llama.download/model.safetensors",  # a download goes on
        results / "a/.notes.part",
        results / "a/.old",
    ]
    torn = [
        results / "a/models/c/sft-1/.model.ab_def12.part/model.safetensors",
        results / "a/models/c/sft-1/.model.abcdefgh.old/model.safetensors",
        results / "b/votes/.votes.parquet.abcdefgh.part",
        results / f"store/requests/{'f' * 64}/.shard-000000.parquet.abcdefgh.part",
        results / f"store/requests/{KEY}/.shard-000064.parquet.abcdefgh.part",
    ]
    for path in kept + torn:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("123")
    with publish(results / "a/t.csv") as file, publish_folder(results / "a/m/model") as folder:
        assert main([]) == 0
        assert file.exists()
        assert folder.exists()
    assert capsys.readouterr().out.startswith("5 work folders and torn files removed")
    assert all(path.exists() for path in kept)
    left = {name for name in list_all(project) if name.endswith((".part", ".old"))}
    assert left == {str(path) for path in kept[1:]}
    assert (results / f"store/requests/{'f' * 64}/shard-000000.parquet").exists()


def test_of_a_link_only_the_link_goes(project, capsys):
    """Also of a link to nothing, to itself, and in the place of a request's folder."""
    results, outside = project / "results", project.parent / "precious"
    shutil.rmtree(results / f"store/requests/{KEY}")
    links = {
        results / f"store/requests/{KEY}": outside,
        results / "a/.model.abcdefgh.part": outside,
        results / "a/.notes.abcdefgh.part": outside / "file",
        results / "a/.nothing.abcdefgh.part": outside / "none",
        results / "a/.itself.abcdefgh.part": results / "a/.itself.abcdefgh.part",
    }
    for link, target in links.items():
        link.symlink_to(target)
    os.mkfifo(results / "a/.fifo.abcdefgh.part")
    os.mkfifo(results / "a/generations/evaluation/fifo.json")
    (results / "a/all").symlink_to(results)
    assert main([]) == 0, capsys.readouterr().err
    assert capsys.readouterr().out == "6 work folders and torn files removed, 0.0 MB\n"
    assert (outside / "file").exists()
    assert not any(link.is_symlink() for link in links)
    for name in ("plain", "link"):
        path = results / "store/training" / name
        path.symlink_to(outside) if name == "link" else path.touch()
    assert main(["--all"]) == 0
    assert (outside / "file").exists()
    assert list((results / "store/training").iterdir()) == []


def test_what_cannot_be_removed_is_named(project, capsys, monkeypatch):
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("weak_to_strong.jobs.clean_work.shutil.rmtree", refuse)
    assert main([]) == 1
    assert f"results/store/requests/{KEY}: no permission" in capsys.readouterr().err


def test_a_link_in_the_place_of_a_lock_is_left_alone(project, capsys):
    lock, target = project / ".snakemake/starting.flock", project.parent / "precious/file"
    target.write_text("text")
    lock.parent.mkdir()
    lock.symlink_to(target)
    assert main([]) == 1
    assert "starting.flock: is no plain file; remove it" in capsys.readouterr().err
    assert target.read_text() == "text"
