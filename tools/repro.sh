#!/usr/bin/env bash
# `dvc repro`, and where to look afterwards.
set -uo pipefail
dvc repro || exit $?
echo "report: $(pwd)/artifacts/report/report.html"
