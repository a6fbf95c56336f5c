"""The parts of scripts/bench.

loads.py         what is measured: vCons, and lists full of them
account.py       what processes have spent
scene.py         the servers of one sample, fresh each time
standins.py      an S3 and an Elasticsearch that cost less than their clients
ours.py          the true command at work, counted
bare.py          the same work with client libraries alone; bare_storages.py: the storages' part
burn.py          a link that computes
contest.py       contenders in turn, medians, verdicts
costs.py         rows: CPU per item
times.py         rows: how long one item takes, how soon the first one
burdens.py       rows: long lists, large configurations, large vCons, busy threads, memory
dashboard.py     pages of the dashboard
sweeps.py        curves: cost against batch size, document size, queue length, workers
report.py        the table and the JSON file; plots.py: the plots
"""
