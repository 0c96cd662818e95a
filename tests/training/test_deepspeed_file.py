"""A DeepSpeed file cannot make DeepSpeed write a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from weak_to_strong.training.deepspeed_file import check_deepspeed

SHIPPED = sorted((Path(__file__).parents[2] / "config/deepspeed").glob("*.json"))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_the_shipped_files_pass(file):
    check_deepspeed(json.loads(file.read_text()))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"flops_profiler": {"output_file": "/tmp/x"}}, "section `flops_profiler` is none that"),
        ({"tensorboard": {"job_name": "../x"}}, "section `tensorboard` is none that"),
        ({"csv_monitor": {}}, "section `csv_monitor` is none that"),
        ({"aio": {}}, "section `aio` is none that"),
        ({"autotuning": {"results_dir": "x"}}, "section `autotuning` is none that"),
        ({"optimizer": {"params": {"lr": 1}}}, "section `optimizer` is none that"),
        (
            {"zero_optimization": {"offload_param": {"device": "nvme", "nvme_path": "/x"}}},
            r"`zero_optimization\.offload_param\.device` is 'nvme'; use a number, true, false",
        ),
        (
            {"zero_optimization": {"offload_param": {"device": "cpu", "nvme_path": "/x"}}},
            r"`zero_optimization\.offload_param\.nvme_path` is '/x'",
        ),
        ({"zero_optimization": 3}, "`zero_optimization` is 3; write an object"),
        ({"zero_optimization": {"stage": 4}}, r"`zero_optimization\.stage` is 4; use 0, 1, 2 or 3"),
        ({"zero_optimization": {"stage": True}}, r"`zero_optimization\.stage` is True; use 0, 1"),
        (
            {"zero_optimization": {"offload_param": True}},
            r"offload_param` is True; write an object",
        ),
        ({"fp16": True}, "`fp16` is True; write an object"),
        ({"gradient_clipping": float("nan")}, "`gradient_clipping` is nan; use a finite number"),
        ({"data_types": ["../x"]}, r"`data_types\.0` is '\.\./x'"),
    ],
)
def test_what_could_write_a_file_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        check_deepspeed(content)
