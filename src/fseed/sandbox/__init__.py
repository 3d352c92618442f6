"""Running generated Python programs where they can do no harm, and judging them by their tests."""
