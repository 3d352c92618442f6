"""Programs that try to get out, to stay, to take too much, or to pass without being right."""

from tests.sandbox.hostile_cheating import CHEATING
from tests.sandbox.hostile_limits import STAYING, TAKING
from tests.sandbox.hostile_outside import OUTSIDE

HOSTILE = (*OUTSIDE, *STAYING, *TAKING, *CHEATING)
