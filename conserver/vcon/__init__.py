"""A vCon in memory: parse, read, change, merge and serialize it without losing unknown members.

document    `Vcon`: the class that links work on. Begin here
ids         which bytes are a vCon, and its uuid
content     bodies of dialogs, analyses and attachments: encodings, media types, hashes
indices     the members in which parts refer to each other by position
document_result
            the text of documents that were read, as callers and callbacks get it
partial     what a long piece of work keeps in a vCon on the way
legacy      a vCon in the spelling of version 0.0.1, for old readers
merge       joins the changes of two chains to one vCon
"""

from __future__ import annotations

from conserver.vcon.content import decode_body
from conserver.vcon.document import Vcon, numbered

__all__ = ["Vcon", "decode_body", "numbered"]
