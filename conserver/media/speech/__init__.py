"""One process that owns a speech model and a device, and the client that workers use.

    windows      the seam: a window of at most 30 s, what is asked of it and what is answered
    packing      (worker) speech of all channels of a call into windows
    wire         windows on their way, in shared memory
    batching     which windows are computed together; pure logic
    turns        how many lanes may encode at once
    whisper      batches through CTranslate2: encode, generate, align
    onnx         batches through onnx-asr, in one step
    tokens       words from the tokens of such models
    models       the models that a device holds, and which of them has to go
    devices      the GPUs of this host, and what a transcriber on its CPU is started with
    meters       what a transcriber counts for /metrics
    lanes        the threads that compute, and what they do about memory that is full
    service      the transcriber process: connections, slots, answers
    client       (worker) a call through a transcriber, sent again when that one dies
    answered     (worker) what is answered of a call, and what is heard a second time
    assembly     (worker) what was understood of windows, into channels of a call
    onnx_inside  (worker) onnx-asr in the worker itself, where there is no transcriber
    engines      (worker) which engine the links of this process use
    remote       (worker) the same through a server elsewhere, with OpenAI's routes
    remote_answers
                 (worker) what such a server answers, as segments
    standalone   a transcriber without a supervisor: for `conserver transcribe`, and for tests

Begin with windows.py. The transcriber process imports onnxruntime for models of onnx-asr alone (its
threads and those of CTranslate2 wait for each other at an ordinary exit; it ends by os._exit),
workers load no model that recognizes words. docs/transcription.md has the picture.
"""
