"""Turns the recordings and documents of a vCon into text.

    transcription/   from audio to analyses: decoding, channels, speakers, results
    speech/          the transcriber process, which owns a device and its models; the client with
                     which workers use a transcriber
    extraction/      from documents to pages of text: files, character recognition, the page reader
                     processes, and the client with which workers use page readers

The link transcribe uses the first two packages, the link read_documents the third.
"""
