"""Published files and folders have the permissions that the user's umask gives."""

import os
import stat

import numpy as np
import pytest
from safetensors.numpy import save_file

from weak_to_strong.models.view import model_view
from weak_to_strong.tables.files import publish, publish_folder, write_json
from weak_to_strong.training.checkpoints import seal_checkpoint


@pytest.fixture(params=[0o002, 0o022, 0o027, 0o077], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_has_the_permissions_of_the_umask(tmp_path, umask):
    with publish(tmp_path / "a") as part:
        save_file({"w": np.ones(1, np.float32)}, part)  # makes a file for its owner alone
    assert mode(tmp_path / "a") == 0o666 & ~umask
    assert os.umask(umask) == umask  # still the same


def test_a_folder_and_all_in_it_have_the_permissions_of_the_umask(tmp_path, umask):
    outside = tmp_path / "outside"
    outside.touch(0o600)
    with publish_folder(tmp_path / "model") as part:
        (part / "inner").mkdir()
        save_file({"w": np.ones(1, np.float32)}, part / "inner/w.safetensors")
        (part / "link").symlink_to(outside)
    assert mode(tmp_path / "model") == mode(tmp_path / "model/inner") == 0o777 & ~umask
    assert mode(tmp_path / "model/inner/w.safetensors") == 0o666 & ~umask
    assert mode(outside) == 0o600


def test_a_checkpoint_has_the_permissions_of_the_umask(tmp_path, umask):
    save_file({"w": np.ones(1, np.float32)}, tmp_path / "model.safetensors")
    seal_checkpoint(tmp_path)
    assert [mode(path) for path in sorted(tmp_path.iterdir())] == [0o666 & ~umask] * 2


def test_a_view_of_a_model_has_the_permissions_of_the_umask(tmp_path, umask):
    (tmp_path / "m").mkdir()
    (tmp_path / "m/config.json").touch()
    manifest = {"path": str(tmp_path / "m"), "files": {"config.json": "0"}}
    write_json(manifest, tmp_path / "m.json")
    assert mode(model_view(tmp_path / "m.json", tmp_path / "views")) == 0o777 & ~umask


def test_a_folder_keeps_the_group_of_a_shared_project(tmp_path):
    tmp_path.chmod(0o2775)
    with publish_folder(tmp_path / "model") as part:
        (part / "inner").mkdir()
    assert mode(tmp_path / "model") & mode(tmp_path / "model/inner") & stat.S_ISGID
