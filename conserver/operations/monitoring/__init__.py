"""Metrics as Prometheus and OpenMetrics read them.

    host.py       /metrics: one host, from the shared memory of its processes; needs no Redis
    queues.py     /metrics/queues: lists, from Redis; every host answers the same, so scrape one
    scrape.py     renders one of the two as text, in the format that the scraper asked for
    server.py     serves both on CONSERVER_METRICS_PORT, in the coordinator

Processes count with telemetry.cells; telemetry/metrics.py lists the counters. Only this package
imports prometheus_client (the extra `metrics`), and only processes that are scraped import it.
"""
