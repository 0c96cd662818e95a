"""What must hold on a device before a study is trusted to it, tried with the embedded models.

Each check is a function of a `Bench`: it generates or trains with the code of the rules, and
returns a `GpuOutcome` with its figures. `gpu_test` runs each check in a process of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from weak_to_strong.cluster.machine_facts import PROJECT
from weak_to_strong.cluster.model_shape import model_shape
from weak_to_strong.cluster.training_cost import TrainingCost
from weak_to_strong.data.embedded_task import generate_problems
from weak_to_strong.generation.rounds import generate_round
from weak_to_strong.jobs.meter import Meter
from weak_to_strong.method.prompts import zero_shot_prompt
from weak_to_strong.models.base_models import describe_base_model
from weak_to_strong.tables.files import read_json, write_json
from weak_to_strong.tables.frames import write_table
from weak_to_strong.tables.schemas import QUESTIONS, SFT_ROWS
from weak_to_strong.training.launching import run_training
from weak_to_strong.training.training_run import TrainingJob

TESTED_MODEL = PROJECT / "resources/embedded/study_strong"
#: Templates of the embedded problems, see config/config.yaml.
TEMPLATES, SEED = (6, 10, 16, 20), 7
#: Longest texts of the checks, in tokens: of an answer, and of a prompt with its answer.
ANSWER_TOKENS, ALL_TOKENS = 48, 512
#: Least share of texts that must equal those of transformers on the CPU, both in float32. Kernels
#: round differently, and one token that does so changes the rest of its text.
LEAST_EQUAL = 0.9
#: Most by which the first loss in bfloat16 may differ from the one in float32, as a share of it.
LOSS_TOLERANCE = 0.05
#: Most by which a loss under ZeRO may differ from that of a plain training, as a share of it.
ZERO_TOLERANCE = 1e-3
#: Share of the texts in which a trained adapter must change something.
LEAST_CHANGED = 0.8
#: What the adapter of a check is taught to answer to everything.
TAUGHT = " 4 + 3 = 7\n#### 7"
#: Settings of all trainings of the checks.
TRAINING = {
    "adapter": "full",
    "dtype": "float32",
    "epochs": 2,
    "global_batch_size": 8,
    "learning_rate": 1e-3,
    "max_length": ALL_TOKENS,
    "per_device_batch_size": 8,
    "scheduler": "constant",
    "seed": 0,
}
LORA = {"adapter": "lora", "lora": {"r": 8, "alpha": 16}, "learning_rate": 1e-2}
#: Rows on which an adapter is trained, counted in all epochs: enough to learn one answer by heart.
ADAPTER_ROWS = 320
GIGABYTE = 1e9


@dataclass(frozen=True)
class GpuOutcome:
    """What a check found.

    Attributes:
        passed: whether it holds; None for a check that cannot be made on this device.
        figures: measured numbers and facts by name.
        reason: why it failed or was not made; "" if it passed.
    """

    passed: bool | None
    figures: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class Bench:
    """Where and on what a check works.

    Attributes:
        device: "cpu" or "cuda".
        folder: folder of this check's files, which may be there from an earlier check.
        questions: number of questions.
    """

    device: str
    folder: Path
    questions: int

    def base(self) -> str:
        """Manifest of the embedded strong model."""
        manifest = self.folder / "strong.json"
        if not manifest.exists():
            write_json(describe_base_model("strong", {"path": str(TESTED_MODEL)}), manifest)
        return str(manifest)

    def problems(self) -> list[str]:
        """Questions of the embedded task."""
        stream = generate_problems(TEMPLATES, SEED)
        return [problem["question"] for problem in islice(stream, self.questions)]

    def table(self) -> str:
        """The questions as a table (QUESTIONS)."""
        file = self.folder / "questions.parquet"
        questions = self.problems()
        rows = pl.DataFrame(
            {
                name: questions if name == "question" else [None] * len(questions)
                for name in QUESTIONS.names()
            },
            schema=QUESTIONS,
        ).with_columns(id=pl.int_range(len(questions)).cast(pl.String), source=pl.lit("embedded"))
        write_table(rows, QUESTIONS, file)
        return str(file)

    def rows(self) -> str:
        """A table (SFT_ROWS) with the answer TAUGHT to all questions."""
        file = self.folder / "rows.parquet"
        prompts = [zero_shot_prompt(question) for question in self.problems()]
        rows = pl.DataFrame(
            {
                "id": [str(number) for number in range(len(prompts))],
                "prompt": prompts,
                "completion": [TAUGHT] * len(prompts),
            },
            schema=SFT_ROWS,
        )
        write_table(rows, SFT_ROWS, file)
        return str(file)

    def request(self, name: str, model: str | None = None, samples: int = 0) -> dict[str, Any]:
        """A request for greedy answers, or for some samples of each question."""
        return {
            "name": name,
            "model": model,
            "base": self.base(),
            "problems": self.table(),
            "demonstrations": None,
            "n": samples or 1,
            "temperature": 1.0 if samples else 0.0,
            "top_p": 1.0,
            "max_tokens": ANSWER_TOKENS,
            "seed": SEED,
            "stop": ["\n\n"],
            "prompt": "question_answer",
        }

    def generate(
        self, requests: Sequence[Mapping[str, Any]], store: str, **engine: Any
    ) -> dict[str, list[str]]:
        """Texts of one round by the name of the request, question after question."""
        settings = {
            "max_model_len": ALL_TOKENS,
            "device": self.device,
            "dtype": "float32",
            # A training of the same check still holds memory of the GPU.
            "gpu_memory_utilization": 0.5,
        }
        batches, _, _ = generate_round(
            requests, {**settings, **engine}, self.folder / store, threads_of_process()
        )
        rows = pl.concat(list(batches))
        names = [request["name"] for request in requests]
        return {name: rows.filter(request=name)["response"].to_list() for name in names}

    def adapter_settings(self) -> dict[str, Any]:
        """Settings of a training of an adapter, beside TRAINING."""
        return {**LORA, "epochs": -(-ADAPTER_ROWS // self.questions)}

    def train(self, name: str, **change: Any) -> dict[str, Any]:
        """Train a model under this name to give one answer to all questions.

        Args:
            name: of the model's folder.
            change: settings that replace those of TRAINING.

        Returns:
            The facts of its manifest, its `manifest`, its `settings`, and `gpu_memory` and
            `host_memory`: the largest use in bytes, None where it is not measured.
        """
        settings = {**TRAINING, **change}
        job = TrainingJob(
            trainer="sft",
            settings=settings,
            rows=self.rows(),
            base=self.base(),
            init=None,
            work=str(self.folder / "work"),
            model=str(self.folder / name / "model"),
            manifest=str(self.folder / name / "manifest.json"),
            history=str(self.folder / name / "history.json"),
        )
        with Meter(0.2) as meter:
            run_training(job)
        cost = meter.cost()
        gpu, host = (
            cost[key] and cost[key] * 2**20 for key in ("peak_gpu_memory_mb", "peak_memory_mb")
        )
        facts = read_json(job.manifest)["facts"]
        memory = {"gpu_memory": gpu, "host_memory": host}
        return {**facts, **memory, "manifest": job.manifest, "settings": settings}


def threads_of_process() -> int:
    """CPU threads that this process was told to use, else 1."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


def equal_share(texts: Sequence[str], others: Sequence[str]) -> float:
    """Share of texts that are equal, apart from white space around them."""
    pairs = list(zip(texts, others, strict=True))
    return sum(text.strip() == other.strip() for text, other in pairs) / len(pairs)


def texts_on_cpu(bench: Bench) -> list[str]:
    """Greedy answers of transformers on the CPU in float32, cut as the engine cuts them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    local = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(TESTED_MODEL, **local)
    model = AutoModelForCausalLM.from_pretrained(TESTED_MODEL, dtype=torch.float32, **local).eval()
    texts = []
    for question in bench.problems():
        ids = tokenizer(zero_shot_prompt(question), return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            answer = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=ANSWER_TOKENS,
                pad_token_id=tokenizer.eos_token_id,
            )
        text = tokenizer.decode(answer[0, ids.shape[1] :], skip_special_tokens=True)
        texts.append(text.partition("\n\n")[0])
    return texts


def try_texts(bench: Bench) -> GpuOutcome:
    """The engine's greedy texts equal those of transformers on the CPU, both in float32."""
    expected = texts_on_cpu(bench)
    texts = bench.generate([bench.request("greedy")], "store")["greedy"]
    share = equal_share(texts, expected)
    figures = {"texts": len(texts), "equal_share": share}
    if not any(text.strip() for text in texts):
        return GpuOutcome(False, figures, "the engine wrote nothing")
    if share < LEAST_EQUAL:
        return GpuOutcome(False, figures, f"{share:.0%} of the texts are those of the CPU")
    return GpuOutcome(True, figures)


def try_batches(bench: Bench) -> GpuOutcome:
    """Texts do not depend on what is in a batch: all at once, and few at a time.

    On GPUs with `batch_invariant`, as in a study that asks for it.
    """
    requests = [bench.request("greedy"), bench.request("samples", samples=4)]
    invariant = {"batch_invariant": True}
    if bench.device == "cuda":
        invariant["dtype"] = "bfloat16"
    together = bench.generate(requests, "together", **invariant)
    apart = bench.generate(requests, "apart", **invariant, max_num_seqs=3, shard_size=5)
    shares = {name: equal_share(together[name], apart[name]) for name in together}
    figures = {f"equal_share_{name}": share for name, share in shares.items()}
    if min(shares.values()) < 1:
        return GpuOutcome(False, figures, "texts depend on the batch")
    return GpuOutcome(True, figures)


def try_adapter(bench: Bench) -> GpuOutcome:
    """A trained adapter acts when it is served beside its base."""
    trained = bench.train("adapter", **bench.adapter_settings())
    requests = [bench.request("base"), bench.request("adapter", trained["manifest"])]
    texts = bench.generate(requests, "store")
    changed = 1 - equal_share(texts["base"], texts["adapter"])
    taught = equal_share(texts["adapter"], [TAUGHT] * len(texts["adapter"]))
    figures = {
        "first_loss": trained["first_loss"],
        "last_loss": trained["last_loss"],
        "changed_share": changed,
        "taught_share": taught,
    }
    if changed < LEAST_CHANGED:
        return GpuOutcome(False, figures, "the served adapter has no effect")
    return _learned(trained, figures)


def try_bfloat16(bench: Bench) -> GpuOutcome:
    """Training in bfloat16 begins at the loss of float32, and learns."""
    plain, half = (bench.train(dtype, dtype=dtype) for dtype in ("float32", "bfloat16"))
    distance = abs(half["first_loss"] - plain["first_loss"]) / plain["first_loss"]
    figures = {
        **{f"{key}_float32": plain[key] for key in ("first_loss", "last_loss")},
        **{f"{key}_bfloat16": half[key] for key in ("first_loss", "last_loss")},
        **memory_figures(bench, half),
    }
    if distance > LOSS_TOLERANCE:
        return GpuOutcome(False, figures, f"the first loss is {distance:.0%} from that of float32")
    return _learned(half, figures)


def try_zero(bench: Bench, stage: int) -> GpuOutcome:
    """Training under a stage of ZeRO has the losses of a plain training."""
    file = str(PROJECT / f"config/deepspeed/zero{stage}.json")
    plain, zero = bench.train("plain"), bench.train("zero", deepspeed=file)
    figures = {
        "last_loss": zero["last_loss"],
        "last_loss_plain": plain["last_loss"],
        **memory_figures(bench, zero),
    }
    distance = abs(zero["last_loss"] - plain["last_loss"]) / plain["last_loss"]
    if distance > ZERO_TOLERANCE:
        return GpuOutcome(
            False, figures, f"the last loss is {distance:.1%} from a plain training's"
        )
    return _learned(zero, figures)


def try_qlora(bench: Bench) -> GpuOutcome:
    """An adapter over a base in 4 bits learns."""
    trained = bench.train("qlora", **bench.adapter_settings(), quantization="nf4", dtype="bfloat16")
    figures = {key: trained[key] for key in ("first_loss", "last_loss")}
    return _learned(trained, {**figures, **memory_figures(bench, trained)})


def try_plan(bench: Bench) -> GpuOutcome:
    """A training takes no more memory of a GPU than the plan says."""
    trained = bench.train("memory")
    figures = memory_figures(bench, trained)
    if bench.device == "cpu":
        return GpuOutcome(None, figures, "the plan is about memory of a GPU")
    if trained["gpu_memory"] is None:
        return GpuOutcome(None, figures, "the driver does not say whose memory it is")
    if figures["measured_gb"] > figures["planned_gb"]:
        return GpuOutcome(False, figures, "more memory than the plan says")
    return GpuOutcome(True, figures)


def _learned(trained: Mapping[str, Any], figures: Mapping[str, Any]) -> GpuOutcome:
    if trained["last_loss"] < 0.8 * trained["first_loss"]:
        return GpuOutcome(True, figures)
    return GpuOutcome(False, figures, "the loss does not fall")


def memory_figures(bench: Bench, trained: Mapping[str, Any]) -> dict[str, float | None]:
    """Measured memory of a training beside the plan's, in gigabytes (10^9 bytes).

    The plan's is for a GPU, with rows that fill `max_length`. On a CPU the measured one is the
    host's, with all libraries.
    """
    shape = model_shape({}, TESTED_MODEL)
    settings = {"quantization": None, "gradient_checkpointing": False, **trained["settings"]}
    measured = trained["gpu_memory" if bench.device == "cuda" else "host_memory"]
    return {
        "measured_gb": measured and measured / GIGABYTE,
        "planned_gb": TrainingCost.of(shape, "sft", settings).memory(1) / GIGABYTE,
    }


#: The checks by name, in the order in which they run.
GPU_CHECKS: dict[str, Callable[[Bench], GpuOutcome]] = {
    "texts": try_texts,
    "batches": try_batches,
    "adapter": try_adapter,
    "bfloat16": try_bfloat16,
    "zero2": lambda bench: try_zero(bench, 2),
    "zero3": lambda bench: try_zero(bench, 3),
    "qlora": try_qlora,
    "plan": try_plan,
}


def try_check(name: str, bench: Bench) -> GpuOutcome:
    """Run one of GPU_CHECKS in its own folder."""
    folder = bench.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    return GPU_CHECKS[name](replace(bench, folder=folder))
