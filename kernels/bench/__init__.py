"""Times WKV7 of this project, its reference and every installable peer in one run on one GPU."""
