"""Documents in, text out: PDFs, pictures and office files, page by page.

    kinds       which kind of file bytes are (vcon.media: which parts of a vCon are documents)
    pdf, pictures, office
                one kind of file each: how many pages, and the text of one of them
    ocr, layout, language
                a picture of a page into lines, lines into text, text into a language
    reader      the process that opens files and reads pages; a crash costs one page
    service, alone
                its entry as a child of the supervisor, and without one
    pool        the readers that this process uses: the host's, or its own
    client      what a link does: hands a document to readers, collects its pages
    results     pages into a `document_text` analysis

Begin with client.read. Files come from strangers, so only reader processes ever open them.
"""
