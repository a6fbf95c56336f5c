"""A vCon in memory: parse, read, change, merge and serialize it without losing unknown members.

document    `Vcon`: the class that links work on. Begin here
ids         decides whether bytes are a vCon, and finds its uuid
content     bodies of dialogs, analyses and attachments: encodings, media types, hashes
media       which parts are documents (PDFs, images, office files)
indices     the members in which parts of a vCon refer to each other by position
document_result
            the extracted text of documents (PDF, images), as API callers and callbacks get it
partial     intermediate results that a long-running link keeps in a vCon
legacy      converts a vCon to version 0.0.1 of the format, for old readers
merge       joins the changes of two chains to one vCon
"""

from __future__ import annotations

from conserver.vcon.content import decode_body
from conserver.vcon.document import Vcon, numbered

__all__ = ["Vcon", "decode_body", "numbered"]
