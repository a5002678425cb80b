#!/usr/bin/env bash
# Print a Python from 3.11 on that can make virtual environments, or say in one line what is missing.
set -u
candidate=""
for name in python3.11 python3.12 python3.13 python3.14 python3 python; do
  command -v "$name" >/dev/null 2>&1 || continue
  "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue
  candidate=$name
  "$name" -c 'import ensurepip, venv' >/dev/null 2>&1 && { echo "$name"; exit 0; }
done
if [ -n "$candidate" ]; then
  echo "sidflow: $candidate cannot make virtual environments. Remedy: install its venv package (Debian: python3-venv)" >&2
else
  echo "sidflow: no Python 3.11 or newer found. Remedy: install one (python.org, or the system's python3)" >&2
fi
exit 2
