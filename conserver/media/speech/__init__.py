"""The transcriber process, which owns a device and its speech models, and the workers' client.

Modules that run in workers are marked (worker).

    windows      the messages between both: a window is at most 30 s of speech
    planning     (worker) finds the windows of a call while the transcriber computes the first ones
    packing      (worker) packs the speech of all channels of a call into windows
    wire         passes windows in shared memory
    batching     chooses the windows of the next batch; pure logic
    turns        how many lanes may encode at once
    whisper      computes batches with CTranslate2: encode, generate, align
    onnx         computes batches with onnx-asr, in one step
    tokens       makes words of the tokens of onnx-asr's models
    vocabulary   decodes tokens, in little memory
    models       the models that a device holds, and which one it drops for another
    devices      the GPUs of this host, and the environment of a transcriber on the CPU
    meters       what a transcriber counts for /metrics
    lanes        the threads that compute batches, and what they do when memory is full
    service_options
                 how a transcriber uses its device
    service      connections, slots, answers
    transcriber  the transcriber as a child of the supervisor
    standalone   a transcriber without a supervisor: for `conserver transcribe`, and for tests
    client       (worker) transcribes a call; sends windows again if the transcriber dies
    answered     (worker) the answers for a call so far, and which speech is computed a second time
    assembly     (worker) builds the segments of each channel from the answers
    onnx_inside  (worker) onnx-asr in the worker itself, on a host without transcribers
    engines, options
                 (worker) which engine the links of this process use, and its options
    remote       (worker) transcribes a call on another server that has OpenAI's routes
    remote_answers
                 (worker) builds segments from that server's answers

Begin with windows.py; docs/transcription.md has a picture. Workers load no model that recognizes
words. A transcriber imports onnxruntime only for models of onnx-asr, and ends by os._exit: at an
ordinary exit the threads of onnxruntime and of CTranslate2 wait for each other.
"""
