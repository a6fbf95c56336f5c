"""check_and_tag: asks a language model a yes-or-no question on each dialog; adds a tag if yes.

    options:
      model: gpt-4.1-mini
      api_key: ${OPENAI_API_KEY}
      tag_name: churn
      tag_value: likely
      evaluation_question: Does the customer threaten to leave?

The link also stores each answer as an analysis. The analysis documents the decision, and in a
further run of the link the question is not asked again. A chain can have several check_and_tag
links with different tags.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic import Field, field_validator

from conserver.links import LinkContext
from conserver.outbound import chat
from conserver.vcon.document import Vcon, numbered, structured

COSTLY = True

_SYSTEM = "You judge texts by one question and answer with JSON only."
_ANSWER = 'Answer with a JSON object with the one member "applies": true for yes, false for no.'


class Options(chat.ChatOptions):
    """The question, and the tag to add if the answer is yes."""

    tag_name: str = Field(min_length=1)
    tag_value: str = Field(min_length=1)
    evaluation_question: str = Field(min_length=1)
    analysis_type: str = Field(default="tag_evaluation", min_length=1)
    response_format: dict[str, Any] = Field(default_factory=lambda: {"type": "json_object"})

    @field_validator("tag_name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if ":" in value:
            raise ValueError(f"{value!r} cannot be a tag's name: it has a colon in it")
        return value


prepare = chat.prepare


def run(vcon: Vcon, options: Options, context: LinkContext) -> Vcon:
    """Ask about every dialog without an answer for this tag; tag the vCon if one is yes."""
    tag = f"{options.tag_name}:{options.tag_value}"
    is_answered = partial(_is_answered, vcon, options.analysis_type, tag)
    for place, text in chat.unanswered(vcon, options, context, is_answered):
        user = f"Question: {options.evaluation_question}\n\n{_ANSWER}\n\nText:\n{text}"
        answer = chat.ask_json(_SYSTEM, user, options, context, options.response_format)
        applies = answer.get("applies") if isinstance(answer, dict) else answer
        if not isinstance(applies, bool):
            raise ValueError(f"the model was asked for yes or no and gave {str(answer)[:200]}")
        vcon.add_analysis(
            {
                "type": options.analysis_type,
                **place,
                "vendor": options.vendor,
                "product": options.model,
                "mediatype": "application/json",
                "encoding": "json",
                "body": {"link_name": context.link, "tag": tag, "applies": applies},
            }
        )
        if applies:
            vcon.add_tag(options.tag_name, options.tag_value)
    return vcon


def _is_answered(vcon: Vcon, kind: str, tag: str, place: dict[str, int]) -> bool:
    for _, analysis in numbered(vcon.analysis):
        if analysis.get("type") == kind and chat.is_about(analysis, place):
            body = structured(analysis)
            if isinstance(body, dict) and body.get("tag") == tag:
                return True
    return False
