"""What links reach out with.

endpoint.py calls a configured HTTP service with retries, chat.py asks a language model over it,
fetch.py reads an address that a vCon names, within limits that protect the network of the operator.
"""
