"""From run directories to a paired table: rows, pairs, statistics, verdicts, files. No torch."""
