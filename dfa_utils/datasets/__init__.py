"""Data sets: the layouts they are published in, the toy fixture, the cache of decoded clips, the audit."""
