#!/usr/bin/env bash
# Builds the image of the docker backend, and on top of it that of the slurm backend, each unless the one at
# hand was made from the same inputs.
set -euo pipefail
cd "$(dirname "$0")"

label=hpc-proxy.inputs
recipe=(Dockerfile entry scheduler sshd.conf)
fixtures=(live-server browser-sync)

digest() {
  local sum
  sum=$(sha256sum)
  echo "${sum%% *}"
}

# build IMAGE BASE INPUTS, the context on stdin.
build() {
  echo "building $1 from $2" >&2
  docker build --build-arg BASE="$2" --label "$label=$3" --tag "$1" - >"$log" 2>&1 \
    || { cat "$log" >&2; exit 1; }
}

made_from() { docker image inspect --format "{{index .Config.Labels \"$label\"}}" "$1" 2>/dev/null || true; }

log=$(mktemp)
trap 'rm -f "$log"' EXIT

image=hpc-proxy-e2e:local
# The lock files stand for the node_modules made from them.
inputs=$(cat "${recipe[@]}" base.sh ../../fixtures/{live-server,browser-sync}/package-lock.json | digest)
if [[ $(made_from "$image") != "$inputs" ]]; then
  base=$(./base.sh)
  # Nothing else of the repository is sent: its target directory has gigabytes.
  tar -c "${recipe[@]}" -C ../../fixtures "${fixtures[@]/%//node_modules}" | build "$image" "$base" "$inputs"
fi

with_slurm=hpc-proxy-e2e-slurm:local
inputs=$(cat slurm/* - <<<"$inputs" | digest)
[[ $(made_from "$with_slurm") == "$inputs" ]] || tar -c -C slurm . | build "$with_slurm" "$image" "$inputs"
