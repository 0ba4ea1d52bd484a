"""What is kept on disk: records and failures, who trains a cell now, sealed files, and where a result comes from."""
