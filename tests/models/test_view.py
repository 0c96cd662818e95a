"""A model's view has the files of its manifest and no others."""

from __future__ import annotations

import pytest

from weak_to_strong.models import view as view_module
from weak_to_strong.models.manifests import hash_files
from weak_to_strong.models.view import model_view
from weak_to_strong.tables.files import write_json


@pytest.fixture
def model(tmp_path):
    """Writes a model folder and its manifest; returns the manifest."""
    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    (folder / "model.safetensors").write_text("weights")
    (folder / "inner/extra.json").write_text("{}")
    manifest = tmp_path / "manifest.json"
    write_json({"path": str(folder), "files": hash_files(folder)}, manifest)
    return manifest


def files_of(view):
    return {path.relative_to(view).as_posix() for path in view.rglob("*") if path.is_file()}


def test_files_that_the_manifest_does_not_list_are_not_in_the_view(model, tmp_path):
    (tmp_path / "model/model_backup.safetensors").write_text("others")
    (tmp_path / "model/consolidated.safetensors").write_text("others")
    view = model_view(model, tmp_path / "views")
    assert files_of(view) == {"model.safetensors", "inner/extra.json"}
    assert (view / "model.safetensors").read_text() == "weights"


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "inner/../../outside"])
def test_a_manifest_names_no_file_outside_its_folder(model, tmp_path, name):
    (tmp_path / "outside").write_text("theirs")
    write_json({"path": str(tmp_path / "model"), "files": {name: "0" * 64}}, model)
    with pytest.raises(ValueError, match=r"not a model manifest \(the file '.*' is not in the"):
        model_view(model, tmp_path / "views")
    assert not (tmp_path / "views").exists()


def test_a_view_is_made_once(model, tmp_path):
    view = model_view(model, tmp_path / "views")
    made = view.stat().st_mtime_ns
    assert model_view(model, tmp_path / "views") == view
    assert view.stat().st_mtime_ns == made


def test_a_view_that_another_process_makes_at_the_same_time_stays(model, tmp_path, monkeypatch):
    """Its jobs read from it already."""
    fill = view_module.link_files

    def overtaken(*arguments):
        monkeypatch.setattr(view_module, "link_files", fill)
        first.append(model_view(model, tmp_path / "views"))
        first.append(first[0].stat().st_ino)
        fill(*arguments)

    first: list = []
    monkeypatch.setattr(view_module, "link_files", overtaken)
    view = model_view(model, tmp_path / "views")
    assert [view, view.stat().st_ino] == first
    assert [path.name for path in (tmp_path / "views").iterdir()] == [view.name]


@pytest.mark.parametrize("change", ["file added", "link removed", "link replaced"])
def test_a_view_that_was_changed_is_made_again(model, tmp_path, change):
    view = model_view(model, tmp_path / "views")
    if change == "file added":
        (view / "model-2.safetensors").write_text("others")
    else:
        (view / "model.safetensors").unlink()
    if change == "link replaced":
        (view / "model.safetensors").write_text("others")
    again = model_view(model, tmp_path / "views")
    assert files_of(again) == {"model.safetensors", "inner/extra.json"}
    assert (again / "model.safetensors").read_text() == "weights"
    assert [path.name for path in (tmp_path / "views").iterdir()] == [view.name]


def test_the_view_of_a_moved_model_is_another_one(model, tmp_path):
    view = model_view(model, tmp_path / "views")
    (tmp_path / "model").rename(tmp_path / "moved")
    write_json({"path": str(tmp_path / "moved"), "files": hash_files(tmp_path / "moved")}, model)
    moved = model_view(model, tmp_path / "views")
    assert moved != view
    assert (moved / "model.safetensors").read_text() == "weights"


def test_a_missing_file_is_named(model, tmp_path):
    (tmp_path / "model/model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"model lacks model\.safetensors"):
        model_view(model, tmp_path / "views")
