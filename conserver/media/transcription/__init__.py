"""Speech to text: from the bytes of a recording to the analyses of a vCon.

    audio         decodes bytes to samples: one int16 array of 16 kHz per channel
    headerless    media types of audio without a header
    losses        what a recording has lost: gaps, damage, sound that never came
    samples       the decoded sound: in memory, or in a file if it is long
    bleed         finds a channel that hears the other one faintly
    voice         detects silence, and cuts long channels into parts
    detector      finds speech; onnx_weights reads its network from a file
    engine        the interface of speech engines: parameters, results, errors
    models        finds the files of a model
    onnx_models   the same for models of onnx-asr
    whisper       the first engine: faster-whisper in this process, loaded at the first use
    speakers      assigns channels to parties
    readable      where paragraphs end, and times of words that increase
    conversation  merges the segments of all channels into one conversation
    results, wtf  build the analyses for the vCon
    transcript    reads such analyses again, as one value
    formats       that value as subtitles, text or JSON
    request       what a caller wants of one recording, kept in its vCon
    languages     the languages that the models know

This wing does not use Redis, chains or whole vCons; `links/transcribe.py` combines its parts. Its
modules import numpy, av, ctranslate2 and faster_whisper only when they are used, so that a worker
without a transcribe link never loads them.
"""
