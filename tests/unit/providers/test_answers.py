"""Reading 200s: usage, finish, refusals, and bodies that are none."""

from __future__ import annotations

from typing import Any

import pytest

from batcher.domain import FailureClass, Finish, Usage
from batcher.providers.anthropic_messages import read_usage as read_claude_usage
from batcher.providers.base import ProviderError
from batcher.providers.openai_format import read_completion, read_logprob, read_usage
from batcher.providers.sdk_call import Answer, with_extra


def answer(message: dict[str, Any], finish: str | None = "stop", **fields: Any) -> Answer:
    value = {"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": finish}], **fields}
    return Answer(value, {}, "req_1")


@pytest.mark.parametrize(
    ("message", "finish", "text", "expected"),
    [
        ({"content": "x"}, "stop", "x", Finish.STOP),
        ({"content": "x"}, "eos", "x", Finish.STOP),
        ({"content": "x"}, "something_new", "x", Finish.STOP),
        ({"content": "x"}, None, "x", Finish.STOP),
        ({"content": None}, "stop", "", Finish.STOP),
        ({"content": ""}, "stop", "", Finish.STOP),
        ({}, "stop", "", Finish.STOP),
        ({"content": "x"}, "length", "x", Finish.LENGTH),
        ({"content": None}, "MAX_TOKENS", "", Finish.LENGTH),
        ({"content": None, "refusal": "I can't"}, "stop", "I can't", Finish.REFUSED),
        ({"content": "half"}, "content_filter", "half", Finish.REFUSED),
        ({"content": None, "tool_calls": [{}]}, "tool_calls", "", Finish.STOP),
        ({"content": [{"type": "thinking"}, {"type": "text", "text": "x"}]}, "stop", "x", Finish.STOP),
        ({"content": "x", "reasoning_content": "thoughts"}, "stop", "x", Finish.STOP),
    ],
)
def test_finish(message: dict[str, Any], finish: str | None, text: str, expected: Finish) -> None:
    completion = read_completion(answer(message, finish), ())
    assert (completion.text, completion.finish) == (text, expected)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"content": [{"token": "a", "logprob": -0.25}, {"token": "b", "logprob": -0.5}]}, -0.75),
        ({"tokens": ["a", "b"], "token_logprobs": [-0.25, -1]}, -1.25),
        ({"content": [{"token": "a", "logprob": 1e-9}]}, 0.0),
        ({"content": [{"token": "a", "logprob": -0.25}, {"token": "b"}]}, None),
        ({"token_logprobs": [None, -0.5]}, None),
        ({"token_logprobs": [float("-inf")]}, None),
        ({"content": []}, None),
        ({"content": [None]}, None),
        ({"content": None, "token_logprobs": "no"}, None),
        (None, None),
        ([], None),
    ],
)
def test_the_log_probability_of_an_answer(told: Any, expected: float | None) -> None:
    assert read_logprob(told) == expected
    body = {"choices": [{"message": {"content": "x"}, "logprobs": told, "finish_reason": "stop"}]}
    assert read_completion(Answer(body, {}, ""), ()).logprob == expected


def test_azure_leaves_the_message_out_when_it_filters() -> None:
    filtered = Answer({"choices": [{"finish_reason": "content_filter", "index": 0}], "usage": {}}, {}, "")
    assert read_completion(filtered, ()).finish is Finish.REFUSED


def test_a_model_that_breaks_off_may_have_cost() -> None:
    with pytest.raises(ProviderError) as caught:
        read_completion(answer({"content": "ha"}, "error"), ())
    assert (caught.value.failure, caught.value.billed) == (FailureClass.UNKNOWN_OUTCOME, None)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}, Usage(10, 0, 0, 4, 0)),
        (
            {
                "prompt_tokens": 2000,
                "completion_tokens": 82,
                "total_tokens": 2082,
                "prompt_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 100},
                "completion_tokens_details": {"reasoning_tokens": 64},
            },
            Usage(2000, 1024, 100, 82, 64),
        ),
        ({"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 30}, Usage(10, 0, 0, 20, 0)),
        ({"prompt_tokens": 10, "completion_tokens": None, "total_tokens": None}, Usage(10, 0, 0, 0, 0)),
        ({"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": None}, Usage(10, 0, 0, 1, 0)),
        (
            {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 9}},
            Usage(5, 5, 0, 1),
        ),
        ({"completion_tokens": 4}, None),
        ({}, None),
        (None, None),
        ("many", None),
    ],
)
def test_openai_usage(usage: Any, expected: Usage | None) -> None:
    assert read_usage(usage) == expected


def test_claudes_input_is_the_sum_of_three() -> None:
    usage = {
        "input_tokens": 20,
        "cache_creation_input_tokens": 300,
        "cache_read_input_tokens": 4000,
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 30},
    }
    assert read_claude_usage(usage) == Usage(4320, 4000, 300, 50, 30)
    assert read_claude_usage({"output_tokens": 1}) is None


def test_an_error_inside_a_200_is_classified_by_the_status_it_names() -> None:
    inside = Answer({"error": {"code": 429, "message": "slow down"}}, {"retry-after": "2"}, "")
    with pytest.raises(ProviderError) as caught:
        read_completion(inside, ())
    assert (caught.value.failure, caught.value.retry_after_s) == (FailureClass.RATE_LIMITED, 2.0)
    with pytest.raises(ProviderError) as caught:
        read_completion(Answer({"error": {"code": 500, "message": "oops"}}, {}, ""), ())
    assert (caught.value.failure, caught.value.billed) == (FailureClass.TRANSIENT, None)


@pytest.mark.parametrize(
    "value", [{}, {"choices": []}, {"choices": None}, {"choices": ["x"]}, {"error": "x"}]
)
def test_a_200_that_is_no_completion_may_have_cost(value: dict[str, Any]) -> None:
    with pytest.raises(ProviderError) as caught:
        read_completion(Answer(value, {}, ""), ())
    assert (caught.value.failure, caught.value.billed) == (FailureClass.UNKNOWN_OUTCOME, None)


def test_a_models_own_fields_remove_replace_and_merge() -> None:
    body = with_extra(
        {"temperature": 0.0, "top_p": 1, "output_config": {"format": 1}},
        {"temperature": None, "top_p": 0.5, "output_config": {"effort": "low"}, "reasoning_effort": "low"},
    )
    assert body == {"top_p": 0.5, "output_config": {"format": 1, "effort": "low"}, "reasoning_effort": "low"}
