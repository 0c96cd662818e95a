"""Adapters on the real vLLM: an engine refuses one that it would ignore.

vLLM ignores an adapter whose layers it does not find (vLLM issue 48019), as that of a language
model under a larger model. The same happens to any model whose adapter has other names.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tiny_models import WITH_IMAGES, make_model

pytestmark = pytest.mark.slow

#: Starts one engine, and prints for each adapter the tokens of a text, or why it is refused.
TRY = """
import json, sys
from weak_to_strong.generation.engine_settings import EngineSettings, engine_arguments
from weak_to_strong.generation.engine_worker import VllmEngine

settings = {"max_model_len": 64, "kv_cache_gib": 0.1, "max_num_seqs": 8, "device": "cpu"}
base, *adapters = sys.argv[1:]
arguments = engine_arguments(EngineSettings.parse(settings), base, [4] * len(adapters))
engine = VllmEngine(arguments)
sampling = {"temperature": 0.0, "top_p": 1.0, "max_tokens": 8, "stop": []}
prompt, answers, texts = list(range(3, 40)), {}, {}
engine.add("base", prompt, None, sampling, None)  # under way while adapters are tried
for number, folder in enumerate(adapters, 1):
    try:
        engine.add(folder, prompt, None, sampling, [folder, number, folder])
    except ValueError as error:
        answers[folder] = str(error)
engine.add("base again", prompt, None, sampling, None)
while len(texts) < len(adapters) + 2 - len(answers):
    for name, text, *_ in engine.step():
        texts[name] = text
print(json.dumps([texts, answers, engine.cached]))
"""


@pytest.fixture(scope="module", params=["llama", *WITH_IMAGES])
def tried(request, tmp_path_factory):
    """Texts by adapter, messages by refused adapter, what the engine printed, and the folder."""
    if request.param in WITH_IMAGES and find_spec("torchvision") is None:
        pytest.skip("vLLM serves models that see images only with the package torchvision")
    root = tmp_path_factory.mktemp(request.param)
    base = make_model(request.param, root / "base")
    make_adapters(base, root)
    folders = [str(root / name) for name in ("acting", "zeros", "tiny", "ignored")]
    done = subprocess.run(
        [sys.executable, "-P", "-c", TRY, str(base), *folders],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            **{"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR"},
            **{"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "TORCHDYNAMO_DISABLE": "1"},
        },
        capture_output=True,
        text=True,
        timeout=1100,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    texts, messages, cached = json.loads(done.stdout.splitlines()[-1])
    texts, messages = ({Path(k).name: v for k, v in part.items()} for part in (texts, messages))
    return texts, messages, cached, done.stderr, root


def make_adapters(base: Path, root: Path) -> None:
    """Adapters as peft saves them: one that acts, one of zeros, one too small to be seen, and one
    whose layers have names that no model of the kind has."""
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file

    from weak_to_strong.training.loading import load_weights, parts_beside_text
    from weak_to_strong.training.settings import PROJECTIONS, complete_settings

    settings = {
        "adapter": "lora",
        "dtype": "float32",
        "epochs": 1,
        "global_batch_size": 1,
        "learning_rate": 1.0,
        "max_length": 8,
        "per_device_batch_size": 1,
        "scheduler": "constant",
        "seed": 0,
    }
    model = load_weights(complete_settings("sft", settings), str(base), str(base))
    lora = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=list(PROJECTIONS),
        exclude_modules=parts_beside_text(model),
        init_lora_weights=False,
    )
    get_peft_model(model, lora).save_pretrained(root / "acting")
    tensors = load_file(root / "acting/adapter_model.safetensors")
    second = {name: tensor for name, tensor in tensors.items() if ".lora_B." in name}
    save(root, "zeros", {**tensors, **{name: 0 * value for name, value in second.items()}})
    save(root, "tiny", {**tensors, **{name: 1e-20 * value for name, value in second.items()}})
    save(
        root,
        "ignored",
        {name.replace(".layers.", ".stack.layers."): t for name, t in tensors.items()},
    )


def save(root: Path, name: str, tensors: dict) -> None:
    from safetensors.torch import save_file

    (root / name).mkdir()
    shutil.copyfile(root / "acting/adapter_config.json", root / name / "adapter_config.json")
    save_file(tensors, root / name / "adapter_model.safetensors")


def test_an_adapter_that_acts_is_served(tried):
    texts, messages, *_ = tried
    assert texts["acting"] != texts["base"]
    assert set(messages) == {"ignored"}


def test_an_adapter_that_changes_nothing_is_no_error(tried):
    """Of a training whose only update had a learning rate of 0, or a tiny one."""
    texts, _, _, printed, root = tried
    assert texts["zeros"] == texts["tiny"] == texts["base"] == texts["base again"]
    assert f"{root / 'tiny'}: this adapter changes too little to be seen" in printed


def test_an_adapter_that_vllm_ignores_is_refused_in_one_line(tried):
    _, messages, *_ = tried
    assert (
        "vLLM ignores this adapter, so that its texts would be those of the base model"
        in (messages["ignored"])
    )
    assert "\n" not in messages["ignored"]


def test_a_trial_leaves_nothing_in_the_prefix_cache(tried):
    """Of the five samples only the second one of the base model finds its prompt there."""
    cached = tried[2]
    assert cached == 32


def test_a_trial_leaves_no_files(tried):
    root = tried[-1]
    assert {path.name for path in root.iterdir()} == {
        *("base", "acting", "zeros", "tiny", "ignored")
    }
