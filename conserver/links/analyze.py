"""analyze: sends each transcript to a language model and stores the answer as an analysis.

    options:
      model: gpt-4.1-mini
      api_key: ${OPENAI_API_KEY}
      base_url: https://api.openai.com/v1     any endpoint with OpenAI's chat completions
      prompt: Summarise this call in three sentences.
      analysis_type: summary
      json_schema: {type: object, ...}        requests and stores a JSON value

A dialog that has an analysis of this type is skipped, so that no request is paid twice.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic import Field

from conserver.links import LinkContext
from conserver.outbound import chat
from conserver.vcon.document import Vcon

COSTLY = True


class Options(chat.ChatOptions):
    """The prompt, and the type under which the answer is stored."""

    prompt: str = Field(min_length=1)
    system_prompt: str = "You analyse conversations. Answer with the result only."
    analysis_type: str = Field(default="summary", min_length=1)
    json_schema: dict[str, Any] | None = None


prepare = chat.prepare


def run(vcon: Vcon, options: Options, context: LinkContext) -> Vcon:
    """Add an analysis for every dialog that has text and no such analysis yet."""
    answer_about = partial(chat.find_analysis, vcon, options.analysis_type)
    for place, text in chat.unanswered(vcon, options, context, answer_about):
        vcon.add_analysis(
            {
                "type": options.analysis_type,
                **place,
                "vendor": options.vendor,
                "product": options.model,
                **_answer(text, options, context),
            }
        )
    return vcon


def _answer(text: str, options: Options, context: LinkContext) -> dict[str, Any]:
    user = f"{options.prompt}\n\n{text}"
    if options.json_schema is None:
        body = chat.ask(options.system_prompt, user, options, context)
        return {"mediatype": "text/plain", "encoding": "none", "body": body}
    schema = {"name": "result", "schema": options.json_schema, "strict": True}
    wanted = {"type": "json_schema", "json_schema": schema}
    value = chat.ask_json(options.system_prompt, user, options, context, wanted)
    return {"mediatype": "application/json", "encoding": "json", "body": value}
