"""analyze, check_and_tag and detect_engagement against a real server for chat completions."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import ValidationError

from conserver.errors import Rejected, Retry
from conserver.links import analyze, check_and_tag, detect_engagement
from conserver.outbound.faults import FailedAttemptError
from conserver.testing.http_server import Reply, chat_reply, serving
from conserver.vcon.document import Vcon
from tests import vcons
from tests.unit.links.stage import Context, vcon

SCHEMA = {"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]}


def transcript(dialog: Any, text: str) -> dict[str, Any]:
    body = {"paragraphs": {"transcript": text}, "transcript": text}
    return {"type": "transcript", "dialog": dialog, "body": body, "encoding": "json"}


def call(*texts: str) -> Vcon:
    """A vCon with as many recordings, each with its transcript."""
    return vcon(
        dialog=[{"type": "recording"} for _ in texts],
        analysis=[transcript(index, text) for index, text in enumerate(texts)],
    )


def options(url: str, **others: Any) -> analyze.Options:
    return analyze.Options.model_validate(
        {"base_url": url + "/v1/", "model": "m", "prompt": "Summarise.", **others}
    )


def checking(url: str, **others: Any) -> check_and_tag.Options:
    question = {"tag_name": "churn", "tag_value": "likely", "evaluation_question": "Do they go?"}
    return check_and_tag.Options.model_validate(
        {"base_url": url, "model": "m", **question, **others}
    )


# analyze


def test_each_dialog_gets_an_analysis() -> None:
    context = Context()
    with serving(chat_reply("first"), chat_reply("second")) as server:
        settings = options(server.url, api_key="k", temperature=0, parameters={"seed": 7})
        changed = analyze.run(call("hello", "goodbye"), settings, context)
    assert changed.analysis[2:] == [
        {
            "type": "summary",
            "dialog": dialog,
            "vendor": "openai",
            "product": "m",
            "mediatype": "text/plain",
            "encoding": "none",
            "body": body,
        }
        for dialog, body in enumerate(("first", "second"))
    ]
    request = server.requests[0]
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer k"
    assert request.json["messages"][1] == {"role": "user", "content": "Summarise.\n\nhello"}
    assert (request.json["model"], request.json["seed"], request.json["temperature"]) == ("m", 7, 0)


def test_what_is_paid_is_saved_before_the_next_question() -> None:
    context = Context()
    with serving(chat_reply("x"), chat_reply("y"), Reply(500)) as server:
        with pytest.raises(Retry):
            analyze.run(call("a", "b", "c"), options(server.url, attempts=1), context)
        assert len(server.requests) == 3
    assert context.checkpoints == 2


def test_a_dialog_that_has_it_is_passed_over() -> None:
    given = call("a", "b")
    given.add_analysis({"type": "summary", "dialog": [0], "body": "there"})
    with serving(chat_reply("new")) as server:
        analyze.run(given, options(server.url), Context())
        assert len(server.requests) == 1
        analyze.run(given, options(server.url), Context())
        assert len(server.requests) == 1
    assert [item["dialog"] for item in given.analysis[2:]] == [[0], 1]


def test_a_structured_result_is_asked_for_and_stored_natively() -> None:
    for answer in ({"mood": "good"}, '```json\n{"mood": "good"}\n```'):
        with serving(chat_reply(answer)) as server:
            settings = options(server.url, json_schema=SCHEMA, analysis_type="mood")
            changed = analyze.run(call("a"), settings, Context())
        added = changed.analysis[-1]
        assert (added["body"], added["encoding"]) == ({"mood": "good"}, "json")
        wanted = server.requests[0].json["response_format"]
        assert wanted["type"] == "json_schema"
        assert wanted["json_schema"]["schema"] == SCHEMA


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (chat_reply("no json"), ValueError, "asked for JSON"),
        (chat_reply(""), ValueError, "empty answer"),
        (chat_reply('{"moo', finish_reason="length"), ValueError, "cut off"),
        (chat_reply("", message={"refusal": "I cannot"}), Rejected, "refuses to answer: I cannot"),
        (Reply(200, b"<html>"), ValueError, "not an answer of a chat endpoint"),
        (Reply(200, b'{"choices": []}'), ValueError, "not an answer of a chat endpoint"),
        (Reply(200, b'{"choices": [null]}'), ValueError, "not an answer of a chat endpoint"),
        (Reply(401, b"bad key"), Retry, "HTTP 401: bad key"),
        (Reply(400, b"too long"), FailedAttemptError, "HTTP 400: too long"),
        (Reply(429, headers={"retry-after": "20"}), Retry, "HTTP 429"),
    ],
)
def test_what_is_no_answer_fails(reply: Reply, kind: type[Exception], words: str) -> None:
    given = call("a")
    with serving(reply) as server, pytest.raises(kind, match=words):
        analyze.run(given, options(server.url, json_schema=SCHEMA), Context())
    assert not given.changed


@pytest.mark.parametrize(
    ("analysis", "location", "expected"),
    [
        (transcript(0, "deepgram"), None, "deepgram"),
        ({"type": "transcript", "dialog": 0, "body": "plain"}, None, "plain"),
        ({"type": "transcript", "dialog": 0, "body": {"text": "groq"}}, None, "groq"),
        ({"type": "transcript", "dialog": [0], "body": {"transcript": {"text": "w"}}}, None, "w"),
        (
            {"type": "transcript", "dialog": 0, "body": '{"text": "s"}', "encoding": "json"},
            "body.text",
            "s",
        ),
        (transcript(0, "deepgram"), "body.text", None),
        ({"type": "transcript", "dialog": 0, "body": {"words": []}}, None, None),
        ({"type": "transcript", "dialog": 1, "body": "other dialog"}, None, None),
        ({"type": "transcript", "dialog": 0}, None, None),
    ],
)
def test_the_text_is_found_where_transcripts_have_it(
    analysis: dict[str, Any], location: str | None, expected: str | None
) -> None:
    given = vcon(dialog=[{"type": "recording"}, None], analysis=[None, analysis])
    source = {"text_location": location}
    with serving(chat_reply("x")) as server:
        analyze.run(given, options(server.url, source=source), Context())
        asked = [request.json["messages"][1]["content"] for request in server.requests]
    assert asked == ([] if expected is None else [f"Summarise.\n\n{expected}"])


def test_only_if_and_sampling_leave_vcons_out() -> None:
    rule = {"section": "attachments", "type": "tags", "includes": "vip"}
    with serving(chat_reply("x")) as server:
        settings = options(server.url, only_if=rule)
        assert not analyze.run(call("a"), settings, Context()).changed
        tagged = call("a")
        tagged.add_tag("vip", "yes")
        assert len(analyze.run(tagged, settings, Context()).analysis) == 2
        assert not analyze.run(call("a"), options(server.url, sampling_rate=0), Context()).changed
        assert len(server.requests) == 1


def test_our_own_rate_is_kept() -> None:
    """The second call of a process waits its turn; one too far away is parked."""
    with serving(chat_reply("x")) as server:
        began_s = time.monotonic()
        settings = options(server.url, requests_per_minute=200)
        analyze.run(call("a", "b"), settings, Context())
        assert time.monotonic() - began_s >= 0.3
        slow = options(server.url, model="other", requests_per_minute=1)
        analyze.run(call("a"), slow, Context())
        with pytest.raises(Retry) as caught:
            analyze.run(call("a"), slow, Context())
        assert 50 < (caught.value.after_s or 0) <= 60


def test_real_shapes_are_read() -> None:
    with serving(chat_reply("x")) as server:
        for shape in vcons.SHAPES:
            given = Vcon.parse(vcons.raw(shape))
            if given.form == "unsigned":
                analyze.run(given, options(server.url, analysis_type="new"), Context())
                given.dump()
        assert len(server.requests) > 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": ""},
        {"prompt": ""},
        {"base_url": "nowhere"},
        {"sampling_rate": 2},
        {"source": {"type": "transcript"}},
        {"only_if": {"section": "dialog", "type": "a", "includes": "b"}},
        {"unknown": 1},
    ],
)
def test_wrong_options_are_refused(wrong: Any) -> None:
    with pytest.raises(ValidationError):
        options("http://127.0.0.1:9", **wrong)


def test_the_key_is_not_shown() -> None:
    settings = options("http://127.0.0.1:9", OPENAI_API_KEY="s3cret")
    assert settings.api_key.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(settings)


# check_and_tag


@pytest.mark.parametrize(("applies", "tags"), [(True, {"churn": "likely"}), (False, {})])
def test_a_yes_is_tagged_and_both_answers_are_kept(applies: bool, tags: dict[str, str]) -> None:
    with serving(chat_reply({"applies": applies})) as server:
        given = call("a")
        check_and_tag.run(given, checking(server.url), Context())
        check_and_tag.run(given, checking(server.url), Context())
        assert len(server.requests) == 1
        assert server.requests[0].json["response_format"] == {"type": "json_object"}
        assert "Do they go?" in server.requests[0].json["messages"][1]["content"]
    assert given.tags == tags
    added = given.analysis[-1]
    assert added["type"] == "tag_evaluation"
    assert added["body"] == {"link_name": "link", "tag": "churn:likely", "applies": applies}


def test_two_questions_in_one_chain_are_both_asked() -> None:
    with serving(chat_reply({"applies": True})) as server:
        given = call("a")
        check_and_tag.run(given, checking(server.url), Context())
        check_and_tag.run(given, checking(server.url, tag_name="angry"), Context())
        assert len(server.requests) == 2
    assert given.tags == {"churn": "likely", "angry": "likely"}


@pytest.mark.parametrize("answer", [{"applies": "yes"}, {}, [], "7"])
def test_an_answer_that_is_neither_yes_nor_no_fails(answer: Any) -> None:
    with serving(chat_reply(answer)) as server, pytest.raises(ValueError, match="yes or no"):
        check_and_tag.run(call("a"), checking(server.url), Context())


def test_a_tag_name_with_a_colon_is_refused() -> None:
    with pytest.raises(ValidationError):
        checking("http://127.0.0.1:9", tag_name="a:b")


# detect_engagement


@pytest.mark.parametrize(
    ("answer", "word"), [("true", "true"), (" False.\n", "false"), ("**Yes**", "true")]
)
def test_engagement_is_kept_and_tagged(answer: str, word: str) -> None:
    with serving(chat_reply(answer)) as server:
        settings = detect_engagement.Options.model_validate({"base_url": server.url, "model": "m"})
        given = detect_engagement.run(call("a"), settings, Context())
        detect_engagement.run(given, settings, Context())
        assert len(server.requests) == 1
    assert given.tags == {"engagement": word}
    assert given.analysis[-1]["body"] == word


def test_engagement_that_is_not_told_fails() -> None:
    with serving(chat_reply("perhaps")) as server:
        settings = detect_engagement.Options.model_validate({"base_url": server.url, "model": "m"})
        with pytest.raises(ValueError, match="perhaps"):
            detect_engagement.run(call("a"), settings, Context())


# transcripts of every maker


@pytest.mark.parametrize("name", vcons.TRANSCRIPTS)
def test_every_format_of_transcript_is_asked_about(name: str) -> None:
    """text-2: the three links find the words whoever made the transcript, under any type of it."""
    body = vcons.TRANSCRIPTS[name]([("Ann", "I want"), ("Ben", "my money back")])
    for kind in ("transcript", "wtf_transcription", "transcription"):
        analysis = [{"type": kind, "dialog": 0, "vendor": "v", "body": body}]
        given = vcon(dialog=[{"type": "recording"}], analysis=analysis)
        with serving(chat_reply("summary")) as server:
            analyze.run(given, options(server.url), Context())
            [request] = server.requests
        asked = request.json["messages"][1]["content"]
        assert "I want" in asked.replace("\n\nSpeaker 1:", "")
        assert "my money back" in asked
        assert given.analysis[-1]["body"] == "summary"


def test_the_other_links_read_transcripts_in_the_same_way() -> None:
    body = vcons.TRANSCRIPTS["wtf"]([("Ann", "hello"), ("Ben", "hi")])
    analysis = [{"type": "wtf_transcription", "dialog": 0, "body": body}]
    given = vcon(dialog=[{"type": "recording"}], analysis=analysis)
    with serving(chat_reply({"applies": True}), chat_reply("true")) as server:
        check_and_tag.run(given, checking(server.url), Context())
        engaged = detect_engagement.Options.model_validate({"base_url": server.url, "model": "m"})
        detect_engagement.run(given, engaged, Context())
        said = [request.json["messages"][1]["content"] for request in server.requests]
    assert all("Ann: hello\n\nBen: hi" in text for text in said)
    assert given.tags == {"churn": "likely", "engagement": "true"}


def test_a_transcript_that_nobody_can_read_is_a_warning() -> None:
    context = Context()
    broken = {"type": "transcript", "dialog": 0, "body": {"error": "model is loading"}}
    given = vcon(dialog=[{"type": "recording"}], analysis=[broken])
    with serving(chat_reply("x")) as server:
        analyze.run(given, options(server.url), context)
        assert server.requests == []
    found = ["analysis 0 (type transcript): an object with: error"]
    assert context.log.at("warning") == [("transcript_unreadable", {"dialog": 0, "found": found})]


def test_what_is_passed_over_leaves_a_line() -> None:
    context = Context()
    given = vcon(
        dialog=[{"type": "recording"}, {"type": "recording"}, {"type": "text", "body": "hi"}],
        analysis=[{"type": "transcript", "dialog": 1, "body": {"text": ""}}],
    )
    with serving(chat_reply("x")) as server:
        analyze.run(given, options(server.url), context)
        assert server.requests == []
    assert context.log.at("info") == [
        ("dialogs_skipped", {"dialogs": [1], "reason": "the transcript has no words"}),
        ("dialogs_skipped", {"dialogs": [0], "reason": "there is no analysis of type transcript"}),
    ]
    assert [fields["dialogs"] for _, fields in context.log.at("debug")] == [[2]]


def test_a_text_location_that_leads_nowhere_is_a_warning() -> None:
    context = Context()
    with serving(chat_reply("x")) as server:
        settings = options(server.url, source={"text_location": "body.nowhere"})
        analyze.run(call("a"), settings, context)
    [(event, fields)] = context.log.at("warning")
    assert (event, fields["dialog"]) == ("transcript_unreadable", 0)


# answers

THOUGHTS = "<think>\nThe customer wants {money} back: [1].\n</think>\n\n"
UNOPENED = THOUGHTS.removeprefix("<think>\n")


@pytest.mark.parametrize("thoughts", ["", THOUGHTS, UNOPENED, THOUGHTS.replace("nk>", "nking>")])
def test_thoughts_are_no_part_of_an_answer(thoughts: str) -> None:
    """think-1, think-2: for all three links, as text, JSON and a word."""
    with serving(chat_reply(thoughts + "A short summary.")) as server:
        assert analyze.run(call("a"), options(server.url), Context()).analysis[-1]["body"] == (
            "A short summary."
        )
    with serving(chat_reply(thoughts + '{"mood": "good"}')) as server:
        settings = options(server.url, json_schema=SCHEMA)
        assert analyze.run(call("a"), settings, Context()).analysis[-1]["body"] == {"mood": "good"}
    for answer in ('{"applies": true}', "true"):
        with serving(chat_reply(thoughts + answer)) as server:
            assert check_and_tag.run(call("a"), checking(server.url), Context()).tags
    with serving(chat_reply(thoughts + "True.")) as server:
        engaged = detect_engagement.Options.model_validate({"base_url": server.url, "model": "m"})
        tagged = detect_engagement.run(call("a"), engaged, Context())
    assert tagged.tags == {"engagement": "true"}


@pytest.mark.parametrize("content", [THOUGHTS, "<think>\nI wonder", f"{THOUGHTS}  \n"])
def test_nothing_but_thoughts_is_a_failed_attempt(content: str) -> None:
    with serving(chat_reply(content)) as server, pytest.raises(ValueError, match="no answer"):
        analyze.run(call("a"), options(server.url), Context())


@pytest.mark.parametrize(
    "content",
    [
        'Here is the result:\n\n```json\n{"mood": "good"}\n```\nAnything else?',
        '```\n{"mood": "good"}\n```',
        'Sure! {"mood": "good"} is what I found.',
        [{"type": "text", "text": '{"mood": '}, {"type": "text", "text": '"good"}'}],
    ],
)
def test_json_is_taken_out_of_what_surrounds_it(content: Any) -> None:
    """fence-1: a sentence, a fence, parts of a text; thoughts in a member of their own."""
    reply = chat_reply("", message={"content": content, "reasoning_content": "Hm."})
    with serving(reply) as server:
        settings = options(server.url, json_schema=SCHEMA)
        assert analyze.run(call("a"), settings, Context()).analysis[-1]["body"] == {"mood": "good"}
