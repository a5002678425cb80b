#!/usr/bin/env bash
# Pyright, quiet unless it finds something.
set -u
output=$(PYRIGHT_PYTHON_IGNORE_WARNINGS=1 pyright 2>&1) && exit 0
echo "$output"
exit 1
