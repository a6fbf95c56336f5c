"""The HTTP requests that links make.

endpoint        calls a server that the configuration names, with retries
chat, answers   ask a language model (through endpoint) and read its answer
pace            limits the requests per minute to one model
fetch, relay    download from a URL that a vCon names; addresses protects private networks
contents        fetches the recordings or documents of one vCon, and collects their faults
send, bounded   send one request to a callback's URL, within one deadline
callback, event, signing          the callback of a job, its end, and webhooks' signatures
uploads, upload_bucket, upload_store      recordings that the API has received
faults          decides which exception an HTTP status becomes
clients         keeps the HTTP clients of the process
"""
