"""How long do tables and intervals take?

    pytest benchmarks/test_report_speed.py --benchmark-enable

The leaderboard of 10,000 records, in a process of its own that has imported nothing, against a reader that opens each
record as one would in a notebook: JSON, model, hash, frame. The records are the committed ones of the protocol ``demo``
as so many studies and seeds. And intervals of 10,000 resamples against the same bootstrap written as a loop. Ratios are
of times on the same machine, the best of some rounds taken in turns; best on an idle machine.
"""
