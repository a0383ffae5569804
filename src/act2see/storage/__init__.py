"""What is kept on disk: run folders, their lines and frames, locks, the cache."""
