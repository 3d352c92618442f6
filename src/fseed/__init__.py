"""fseed: does Future-Seed help RWKV-7 on a real task, and how sure are we?

Importing the package does no work and imports neither torch nor Hydra.
"""

__version__ = "0.1.0"
