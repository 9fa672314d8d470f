"""One question a file; each says its question, its baseline and its peer in its first lines."""
