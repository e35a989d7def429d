#!/usr/bin/env bash
# Builds the image hpc-manager:local around the program given.
set -euo pipefail
program=$(realpath "$1")
cd "$(dirname "$0")"

base=$(../../slurm-sim/image/base.sh)
tar -c Dockerfile -C "$(dirname "$program")" hpc-manager \
  | docker build --quiet --build-arg BASE="$base" --tag hpc-manager:local - >/dev/null
echo "built hpc-manager:local from $base" >&2
