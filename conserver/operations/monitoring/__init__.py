"""Metrics as Prometheus and OpenMetrics read them.

    host.py       /metrics: one host, from the shared memory of its processes; needs no Redis
    queues.py     /metrics/queues: what Redis knows, the same from every host; scraped from one
    scrape.py     either of them as text, in the format that was asked for
    server.py     serves both on CONSERVER_METRICS_PORT, in the coordinator

Processes count with telemetry.cells; telemetry/metrics.py lists what. Only this wing imports
prometheus_client (the extra `metrics`), and it is imported only where something is scraped.
"""
