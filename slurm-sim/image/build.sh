#!/usr/bin/env bash
# Builds the image of the docker backend unless the one at hand was made from the same inputs.
set -euo pipefail
cd "$(dirname "$0")"

image=hpc-proxy-e2e:local
label=hpc-proxy.inputs
recipe=(Dockerfile entry sshd.conf)
fixtures=(live-server browser-sync)

# The lock files stand for the node_modules made from them.
inputs=$(cat "${recipe[@]}" base.sh ../../fixtures/{live-server,browser-sync}/package-lock.json | sha256sum)
inputs=${inputs%% *}
made_from=$(docker image inspect --format "{{index .Config.Labels \"$label\"}}" "$image" 2>/dev/null || true)
[[ $made_from != "$inputs" ]] || exit 0

base=$(./base.sh)
echo "building $image from $base" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Nothing else of the repository is sent: its target directory has gigabytes.
tar -c "${recipe[@]}" -C ../../fixtures "${fixtures[@]/%//node_modules}" \
  | docker build --build-arg BASE="$base" --label "$label=$inputs" --tag "$image" - >"$log" 2>&1 \
  || { cat "$log" >&2; exit 1; }
