"""What the process that forks commands has loaded: importing it is all there is to it."""

import pandas  # noqa: F401 (loaded for the forks)

import fseed.compose.commands
import fseed.data_card
import fseed.launch.worker
import fseed.results.tables
import fseed.run
import fseed.training.runner  # noqa: F401 (the same)
