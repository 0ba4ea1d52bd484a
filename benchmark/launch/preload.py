"""What the fork server loads once, so that a worker forked from it starts in a fraction of a second.

Importing torch takes over a second. Nothing here may touch a GPU or start threads: both do not survive a fork. What
fails here fails again in every worker, which writes it into its log.
"""

failure: Exception | None = None
"""What went wrong. torch, which cannot be loaded twice, says no more than that when a worker tries again."""
try:
    import benchmark.worker  # noqa: F401
    from benchmark.results import provenance

    provenance.provenance()  # the code that was loaded here is what workers run, whatever is edited afterwards
except Exception as error:
    failure = error
