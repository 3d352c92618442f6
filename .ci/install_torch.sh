#!/usr/bin/env bash
# Install torch: a CPU build where there is no NVIDIA GPU (a CUDA build takes several gigabytes).
# Usage: install_torch.sh PYTHON VERSION GPU(0|1)
set -euo pipefail
python=$1 version=$2 gpu=$3

if "$python" -c 'import torch' 2>/dev/null; then exit 0; fi
pip=("$python" -m pip install --quiet)
if [ "$gpu" = 1 ] || [ "$(uname -s)" != Linux ]; then
    exec "${pip[@]}" "torch==$version"
fi
# CPU builds carry the local version +cpu on any index or folder that has them
if "${pip[@]}" "torch==$version+cpu" 2>/dev/null; then exit 0; fi
echo "No CPU build of torch $version on the configured package indexes: installing the default one." >&2
echo "To save gigabytes, set PIP_EXTRA_INDEX_URL to PyTorch's CPU wheel index and run make again." >&2
exec "${pip[@]}" "torch==$version"
