"""Options of every launcher."""

from fseed.config.schema.launcher import LauncherConfig

__all__ = ["LauncherConfig"]
