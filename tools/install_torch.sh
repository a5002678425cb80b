#!/usr/bin/env bash
# Install torch for this machine. usage: install_torch.sh PYTHON VERSION CUDA(yes or empty)
# The CPU build is a fifth of the size: it is asked for wherever there is no NVIDIA driver.
set -u
python=$1 version=$2 cuda=$3
pip=("$python" -m pip install --quiet --disable-pip-version-check)
if [ -n "$cuda" ] || [ "$(uname -s)" != Linux ]; then
  exec "${pip[@]}" "torch==$version"
fi
"${pip[@]}" --retries 1 "torch==$version+cpu" 2>/dev/null && exit 0
"${pip[@]}" --retries 1 --timeout 10 --index-url https://download.pytorch.org/whl/cpu \
  --extra-index-url "$("$python" -m pip config get global.index-url 2>/dev/null)" "torch==$version+cpu" 2>/dev/null && exit 0
echo "sidflow: no CPU build of torch $version within reach; the plain one brings some gigabytes of CUDA along" >&2
exec "${pip[@]}" "torch==$version"
