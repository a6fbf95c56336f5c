"""detect_engagement: asks a language model whether both sides of a dialog spoke, and adds a tag.

    options:
      model: gpt-4.1-mini
      api_key: ${OPENAI_API_KEY}

The answer is stored as an analysis ("true" or "false") and as the tag engagement:true or
engagement:false. A vCon whose dialogs differ gets both tags.
"""

from __future__ import annotations

from functools import partial

from pydantic import Field

from conserver.links import LinkContext
from conserver.outbound import chat
from conserver.vcon.document import Vcon

COSTLY = True

_ANSWERS = {"true": True, "yes": True, "false": False, "no": False}


class Options(chat.ChatOptions):
    """The question. It can be replaced by another whose answer is true or false."""

    prompt: str = Field(
        default=(
            "Did both the customer and the agent take part in this conversation? "
            "Answer with the single word true or false."
        ),
        min_length=1,
    )
    system_prompt: str = "You judge conversations and answer with one word."
    analysis_type: str = Field(default="engagement_analysis", min_length=1)


prepare = chat.prepare


def run(vcon: Vcon, options: Options, context: LinkContext) -> Vcon:
    """Ask about every dialog that has no such analysis yet."""
    answer_about = partial(chat.find_analysis, vcon, options.analysis_type)
    for place, text in chat.unanswered(vcon, options, context, answer_about):
        user = f"{options.prompt}\n\nTranscript:\n{text}"
        answer = chat.ask(options.system_prompt, user, options, context)
        engaged = _ANSWERS.get(answer.strip().strip(".!\"'`*").lower())
        if engaged is None:
            raise ValueError(f"the model was asked for true or false and gave {answer[:200]!r}")
        word = "true" if engaged else "false"
        vcon.add_analysis(
            {
                "type": options.analysis_type,
                **place,
                "vendor": options.vendor,
                "product": options.model,
                "mediatype": "text/plain",
                "encoding": "none",
                "body": word,
            }
        )
        vcon.add_tag("engagement", word)
    return vcon
