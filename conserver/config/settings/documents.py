"""Settings of page readers, the processes that read pages of documents."""

from __future__ import annotations

from conserver.config.setting_types import Bytes, PageReaderCount
from conserver.config.settings.part import Part, setting


class Documents(Part):
    """The settings of page readers."""

    page_readers: PageReaderCount = setting(
        "CONSERVER_PAGE_READERS",
        "auto",
        "Processes that read pages of documents, for all workers: `auto` is one per core, at most"
        " 8. They are started if a link reads documents.",
    )
    page_reader_memory: Bytes = setting(
        "CONSERVER_PAGE_READER_MEMORY",
        "2G",
        "What one page reader may allocate; a page that takes more is given up. 0 is no limit.",
    )
