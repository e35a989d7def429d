#!/usr/bin/env bash
# Starts the Docker engine where none runs, and waits until it answers. Does nothing when it does.
set -euo pipefail

log=${1:?usage: engine.sh LOG}

answers() { timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>"$log.why"; }
as_root() { if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi; }
fail() {
  echo "engine: $1" >&2
  exit 1
}

mkdir -p "$(dirname "$log")"
trap 'rm -f "$log.why"' EXIT
answers && exit 0
let_in() {
  ! grep -q 'permission denied' "$log.why" \
    || fail "the Docker engine does not let you in; hint: sudo usermod -aG docker $(id -un), then log in again"
}
let_in
[[ -z ${DOCKER_HOST:-} ]] || fail "no engine answers at DOCKER_HOST=$DOCKER_HOST"
if ((EUID != 0)) && ! sudo -n true 2>/dev/null; then
  fail "the Docker engine is not running; hint: sudo systemctl start docker"
fi

echo "starting the Docker engine" >&2
if [[ -d /run/systemd/system ]]; then
  as_root systemctl start docker >"$log" 2>&1 || true
else
  # After an unclean end its number may belong to another process now, for which dockerd would wait.
  pid=$(cat /var/run/docker.pid 2>/dev/null || true)
  if [[ -n $pid && $(cat "/proc/$pid/comm" 2>/dev/null) != dockerd ]]; then
    as_root rm -f /var/run/docker.pid
  fi
  as_root setsid dockerd >"$log" 2>&1 </dev/null &
fi
for ((tries = 0; tries < 300; tries++)); do
  answers && exit 0
  let_in
  sleep 0.1
done
tail -20 "$log" >&2
fail "the Docker engine did not answer within 30 s: $(cat "$log.why")"
