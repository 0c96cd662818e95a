"""Group relative policy optimisation with TRL's GRPOTrainer. Importing this module loads TRL.

In each update the model answers some questions several times. With R the reward of an answer
(`method.rewards`), its advantage is (R - mean) / (standard deviation + 0.0001) over the group of
answers to its question (Shao et al., arXiv 2402.03300, equation 3 and section 4.1.2). The loss is
TRL's default, a mean over all sampled tokens of the update (DAPO; Yu et al., arXiv 2503.14476). One
update is made of each sample. `beta` weighs the distance from the initial model; with 0 there is no
reference model.

transformers samples, at the temperature of the settings and with nothing else that shapes the
distribution. An answer ends as in the workflow's other generation: at an end token, at a stop
string, or at the task's number of tokens. The end token of a chat is the one of its template. The
tokens of a stop string are trained too, since the model chose to end with them. Dropout is off.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl
import torch
from accelerate.utils import broadcast_object_list, gather_object
from datasets import Dataset
from transformers import StoppingCriteria
from trl import GRPOConfig, GRPOTrainer
from trl.models import unwrap_model_for_generation
from trl.trainer.utils import pad

from weak_to_strong.evaluation.judges import choose_judge
from weak_to_strong.method.answers import PaperQuirks
from weak_to_strong.method.labels import read_answers
from weak_to_strong.method.rewards import GROUPED_ANSWERS, score_answers
from weak_to_strong.training.reference import freeze_reference
from weak_to_strong.training.rows import Question, question_order
from weak_to_strong.training.settings import RewardSettings, TrainingSettings

#: Tokens beside those of the longest stop string in which it is looked for while a text grows.
_FURTHER_TOKENS = 4


@dataclass
class RewardedConfig(GRPOConfig):
    """TRL's configuration with what it does not know."""

    passes: int = field(default=1, metadata={"help": "Passes over the questions."})
    updates: int | None = field(default=None, metadata={"help": "Updates, in place of passes."})
    rewards: dict[str, Any] | None = field(
        default=None, metadata={"help": "RewardSettings as a mapping."}
    )


def make_arguments(common: Mapping[str, Any], settings: TrainingSettings) -> RewardedConfig:
    """TRL's configuration with the sampling, and the settings of the reward."""
    rewards = settings.rewards
    known = {name: value for name, value in common.items() if name != "max_length"}
    return RewardedConfig(
        # The rows are those of all passes, see make_trainer.
        **{**known, "num_train_epochs": 1, "max_steps": -1},
        passes=settings.epochs,
        updates=settings.max_steps,
        rewards=asdict(rewards),
        beta=settings.beta,
        num_generations=rewards.samples,
        temperature=rewards.temperature,
        max_completion_length=rewards.max_tokens,
        disable_dropout=True,
        shuffle_dataset=False,
    )


def make_trainer(
    common: Mapping[str, Any],
    rows: Sequence[Question],
    sort_rows: Callable[[type], type],
    likelihood: str | None,
    reference: Any,
) -> GRPOTrainer:
    """The trainer. Its reference is the initial model; rows are groups, so they are not sorted.

    A row of its table is a group: the number of the group as `prompt`. The table has the groups of
    all passes in their order. TRL would draw the order while it trains, and after a resumption draw
    another one.

    Args: see `trainers.trainer_module`.
    """
    arguments = common["args"]
    settings = RewardSettings(**arguments.rewards)
    order = question_order(
        len(rows),
        arguments.passes,
        arguments.generation_batch_size // settings.samples,
        arguments.updates,
        arguments.seed,
    )
    questions = [rows[place] for place in order]
    trainer = GRPOTrainer(
        **common,
        train_dataset=Dataset.from_dict({"prompt": [str(group) for group in range(len(order))]}),
        rollout_func=make_sampler(questions, settings),
        reward_funcs=make_reward(questions, settings, arguments.seed),
    )
    freeze_reference(trainer.model)
    if (end := rows[0].end) is not None:
        trainer.eos_token_ids = list(dict.fromkeys([*trainer.eos_token_ids, end]))
        trainer.generation_config.eos_token_id = trainer.eos_token_ids
    return trainer


# --- answers -----------------------------------------------------------------------------------


class StopAtStrings(StoppingCriteria):
    """Ends a text as soon as it has one of the stop strings.

    Args:
        tokenizer: of the model.
        stops: the strings, at least one.
        start: number of tokens of the padded prompts.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str], start: int) -> None:
        self._tokenizer, self._stops, self._start = tokenizer, stops, start
        # A token has one byte at least.
        self._tail = max(len(stop.encode()) for stop in stops) + _FURTHER_TOKENS

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        tails = input_ids[:, self._start :][:, -self._tail :]
        texts = self._tokenizer.batch_decode(tails, skip_special_tokens=True)
        ended = [_has_stop(text, self._stops) for text in texts]
        return torch.tensor(ended, dtype=torch.bool, device=input_ids.device)


def _has_stop(text: str, stops: Sequence[str]) -> bool:
    return any(stop in text for stop in stops)


def cut_answer(
    tokens: Sequence[int],
    tokenizer: Any,
    end_tokens: Sequence[int],
    stops: Sequence[str],
) -> list[int]:
    """A sampled answer up to its first end token, or the token with which a stop string is there.

    Args:
        tokens: ids of the answer, with padding behind its end.
        tokenizer: of the model.
        end_tokens: ids that end an answer.
        stops: strings that end an answer.
    """
    answer = list(tokens)
    end = next((place for place, token in enumerate(answer) if token in end_tokens), None)
    if end is not None:
        answer = answer[: end + 1]

    def is_stopped(length: int) -> bool:
        return _has_stop(tokenizer.decode(answer[:length], skip_special_tokens=True), stops)

    if stops and is_stopped(len(answer)):
        return answer[: 1 + bisect_left(range(1, len(answer)), True, key=is_stopped)]
    return answer


def sampled_text(
    answer: Sequence[int],
    tokenizer: Any,
    end_tokens: Sequence[int],
    settings: RewardSettings,
) -> tuple[str, str]:
    """The `response` and the `finish_reason` of an answer, as GENERATIONS has them.

    Args:
        answer: ids of an answer, see `cut_answer`.
        tokenizer: of the model.
        end_tokens: ids that end an answer.
        settings: with `answer_after` the text has special tokens, as in other generation: one of
            them may be that mark.
    """
    ended = answer[-1:] and answer[-1] in end_tokens
    skips = settings.answer_after is None
    text = tokenizer.decode(answer[:-1] if ended else answer, skip_special_tokens=skips)
    return text, "stop" if ended or _has_stop(text, settings.stop) else "length"


def make_sampler(
    questions: Sequence[Question], settings: RewardSettings
) -> Callable[..., dict[str, Any]]:
    """TRL's `rollout_func`: answers to the questions of this process, sampled by transformers.

    TRL hands its further columns `response` and `finish_reason` to the reward function.

    Args:
        questions: of each group of the training.
        settings: what ends an answer, and how it is read.
    """
    stops = settings.stop

    def sample(groups: Sequence[str], trainer: GRPOTrainer) -> dict[str, Any]:
        prompts = [questions[int(group)].prompt for group in groups]
        tokenizer, arguments = trainer.processing_class, trainer.args
        device = trainer.accelerator.device
        inputs = [torch.tensor(prompt) for prompt in prompts]
        padded = pad(inputs, padding_value=tokenizer.pad_token_id, padding_side="left").to(device)
        masks = [torch.ones_like(prompt) for prompt in inputs]
        width = padded.shape[1]
        with (
            torch.no_grad(),
            unwrap_model_for_generation(
                trainer.model_wrapped,
                trainer.accelerator,
                generation_kwargs=trainer.generation_kwargs,
                gradient_checkpointing_kwargs=arguments.gradient_checkpointing_kwargs,
            ) as model,
        ):
            texts = model.generate(
                input_ids=padded,
                attention_mask=pad(masks, padding_value=0, padding_side="left").to(device),
                generation_config=trainer.generation_config,
                stopping_criteria=[StopAtStrings(tokenizer, stops, width)] if stops else None,
            )
        ends = trainer.eos_token_ids
        answers = [
            cut_answer(sampled, tokenizer, ends, stops) for sampled in texts[:, width:].tolist()
        ]
        read = [sampled_text(answer, tokenizer, ends, settings) for answer in answers]
        return {
            "prompt_ids": prompts,
            "completion_ids": answers,
            "logprobs": None,
            "response": [text for text, _ in read],
            "finish_reason": [reason for _, reason in read],
        }

    return sample


# --- rewards -----------------------------------------------------------------------------------


def make_reward(
    questions: Sequence[Question], settings: RewardSettings, seed: int
) -> Callable[..., list[float]]:
    """TRL's reward function. Groups may span processes: the first one judges all answers.

    Args:
        questions: of each group of the training.
        settings: how answers are read and rewarded.
        seed: of the reward `random`.
    """
    forms = dict.fromkeys(("id", "answer_type", "unit", "parts"), pl.String)
    known = pl.DataFrame(
        [{name: getattr(question, name) for name in forms} for question in questions], schema=forms
    ).unique(maintain_order=True)
    judge = choose_judge(settings.judge, known)

    def reward(
        prompts: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
        response: Sequence[str],
        finish_reason: Sequence[str],
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float]:
        read = read_answers(
            pl.DataFrame(
                {"response": response, "finish_reason": finish_reason},
                schema=dict.fromkeys(("response", "finish_reason"), pl.String),
            ),
            settings.answer_key,
            settings.stop,
            PaperQuirks(**settings.quirks),
            raw=settings.judge["name"] != "string",
            extraction=settings.extraction,
            answer_after=settings.answer_after,
        )
        texts = read.select("response", "prediction").iter_rows()
        lengths = map(len, completion_ids)
        own = [
            (int(group), *text, length)
            for group, text, length in zip(prompts, texts, lengths, strict=True)
        ]
        # Processes follow each other in the order of the table, so a group's answers do too.
        all_answers = gather_object(own)
        rank = int(torch.distributed.get_rank()) if torch.distributed.is_initialized() else 0
        rewards: list[Any] = [None]
        if rank == 0:
            table = grouped_answers([answer[:3] for answer in all_answers], questions)
            rewards = [score_answers(settings.reward, table, judge=judge, seed=seed)]
        broadcast_object_list(rewards)
        log_metric("generated_tokens", sum(length for *_, length in all_answers))
        log_metric("prompt_tokens", sum(len(questions[group].prompt) for group, *_ in all_answers))
        unanswered = sum(not prediction for _, _, prediction, _ in all_answers)
        log_metric("unanswered", unanswered / len(all_answers))
        first = rank * len(own)
        return rewards[0][first : first + len(own)]

    reward.__name__ = settings.reward  # TRL logs the reward under this name
    return reward


def grouped_answers(
    answers: Sequence[tuple[int, str, str]], questions: Sequence[Question]
) -> pl.DataFrame:
    """GROUPED_ANSWERS of an update, in the order of its samples.

    Args:
        answers: number of the group, text and final answer of each sample of all processes.
        questions: of each group of the training.
    """
    return pl.DataFrame(
        {
            "group": [group for group, *_ in answers],
            "id": [questions[group].id for group, *_ in answers],
            "prompt": [questions[group].text for group, *_ in answers],
            "response": [response for _, response, _ in answers],
            "prediction": [prediction for *_, prediction in answers],
            "answer": [questions[group].answer for group, *_ in answers],
        },
        schema={name: kind for name, kind in GROUPED_ANSWERS.items() if name != "sample"},
    ).select(
        "group",
        pl.int_range(pl.len()).over("group").cast(pl.Int32).alias("sample"),
        *("id", "prompt", "response", "prediction", "answer"),
    )
