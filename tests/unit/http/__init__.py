"""Parts of the process that serves HTTP, without a server."""
