"""The parts of the report, one file each; each returns markup, empty where it has no data."""
