#!/usr/bin/env bash
# Names an image of Debian bookworm on stdout: the public one, or where no registry answers one made here
# from packages. Says on stderr what it does, when it does anything.
set -euo pipefail

public=${BASE:-debian:bookworm-slim}
own=hpc-proxy-base:local

has() { docker image inspect "$1" >/dev/null 2>&1; }
as_root() { if ((EUID == 0)); then "$@"; else sudo "$@"; fi; }

for image in "$public" "$own"; do
  if has "$image"; then
    echo "$image"
    exit 0
  fi
done
echo "pulling $public" >&2
if timeout 300 docker pull --quiet "$public" >/dev/null; then
  echo "$public"
  exit 0
fi
echo "no registry answers; making $own from packages (about half a minute)" >&2
command -v mmdebstrap >/dev/null || {
  echo "base: mmdebstrap is missing; hint: sudo apt-get install mmdebstrap" >&2
  exit 1
}
# Documentation is left out and nothing is fsynced: an image that fails is made again.
as_root mmdebstrap --quiet --variant=minbase \
  --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
  --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  bookworm - | docker import --change 'CMD ["bash"]' - "$own" >/dev/null
echo "$own"
