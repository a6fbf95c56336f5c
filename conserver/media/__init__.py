"""What a vCon carries, as text: recordings and documents.

    transcription/   audio in, analyses out: decoding, channels, speakers, results
    speech/          the transcriber, a process that owns a model and a device; its workers' client
    extraction/      documents in, pages of text out: files, recognition, page readers, their client

The links transcribe and read_documents are made of them.
"""
