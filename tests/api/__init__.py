"""The HTTP API over a real Redis and real connections."""
