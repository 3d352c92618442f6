"""All malicious inputs."""

from tests.security import configurations, contents, reach, records, texts
from tests.security.attack import Attack

ATTACKS: list[Attack] = [
    *configurations.ATTACKS,
    *reach.ATTACKS,
    *contents.ATTACKS,
    *records.ATTACKS,
    *texts.ATTACKS,
]
