"""Errors of the kernels."""


class KernelUnavailable(RuntimeError):
    """A kernel was asked for where it cannot run, or failed its self-check."""
