"""Speech to text: from the bytes of a recording to the analyses of a vCon.

    audio         bytes -> samples: one int16 array of 16 kHz per channel
    voice         where a channel is silent, and where a long one is cut
    engine        the seam: what an engine is given, what it gives back, and how it fails
    models        where the files of a model are
    whisper       the first engine: faster-whisper in this process, loaded at the first use
    speakers      which party speaks on which channel
    conversation  all channels as one conversation
    results, wtf  the analyses that a vCon keeps

Nothing here knows Redis, chains or whole vCons: `links/transcribe.py` puts the parts together. No
module imports numpy, av, ctranslate2 or faster_whisper when it is imported itself: a worker whose
configuration names no transcription never loads them.
"""
