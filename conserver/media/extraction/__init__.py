"""Extracts the text of PDFs, pictures and office files, page by page.

    kinds       finds the kind of a file by its bytes (vcon/media.py: which parts are documents)
    pdf, pictures, office
                for one kind of file each: how many pages it has, and the text of one page
    ocr, layout, language
                recognize the lines on a picture of a page; order lines into text; find the language
    reader      the page reader, a process that opens files and reads pages; its crash costs a page
    service, alone
                start a page reader as a child of the supervisor, or without a supervisor
    pool        the page readers that a worker uses: those of the host, or its own
    client      used by links: hands a document to page readers and collects the pages
    results     builds the `document_text` analysis from pages

Begin with client.read. Only page readers open files, because a file may come from a stranger and
crash or deceive the library that reads it.
"""
