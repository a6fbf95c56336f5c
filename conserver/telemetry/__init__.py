"""Log lines (log.py) without secrets (redact.py), metrics, and traces.

    log, redact           log lines; secrets are removed from them
    cells, metrics        counters of each process, in shared memory
    traces, otel, otlp    spans: the interface, making them with OpenTelemetry, sending them

It imports no other package, so that all packages can log.
"""
