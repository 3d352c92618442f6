#!/usr/bin/env bash
# Two presets on HotpotQA, three seeds. Words given to the script go to every run.
set -euo pipefail
python -m fseed.run experiment=hotpot_quick -m "$@"
