"""The outside world, one vendor a file; each file is the only importer of its SDK."""
