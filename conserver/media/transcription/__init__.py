"""Speech to text: from the bytes of a recording to the analyses of a vCon.

    audio         decodes bytes to samples: one int16 array of 16 kHz per channel
    headerless    media types of audio without a header
    losses        finds what is missing in a recording: gaps, damaged and absent sound
    samples       the decoded sound: in memory, or in a file if it is long
    bleed         finds a channel on which the other one is heard faintly
    voice         detects silence, and cuts long channels into stretches
    detector      finds speech; onnx_weights reads its network from a file
    engine        the interface of speech engines: parameters, results, errors
    models        finds the files of a model
    onnx_models   finds the files of a model of onnx-asr
    whisper       faster-whisper in the worker itself, loaded at the first use
    in_process    models in the worker itself: one per process, one call at a time
    speakers      assigns channels to parties
    readable      divides text into paragraphs, and makes the times of words increase
    conversation  merges the segments of all channels into one conversation
    results, wtf  build the analyses for the vCon
    transcript    reads these analyses into one value, a Transcript
    formats       renders a Transcript as subtitles, text or JSON
    request       the caller's wishes for one recording, stored in its vCon
    languages     the languages that the models know

This package uses neither Redis nor chains; `links/transcribe.py` combines its parts. Its modules
import numpy, av, ctranslate2 and faster_whisper only inside functions, so a worker without a
transcribe link never loads these libraries.
"""
