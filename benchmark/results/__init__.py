"""What is kept on disk: records and failures, locks on cells, sealed files, and where a result comes from."""
