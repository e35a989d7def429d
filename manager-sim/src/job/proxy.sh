directory=$HOME/.hpc-proxy
lease=$directory/job-$SLURM_JOB_ID
mkdir -p -m 700 "$directory"
# Nothing from before this start may be believed: a requeued job finds its own old files here,
# since a killed proxy cannot take them back.
rm -f -- "$lease.json" "$lease.token" "$lease.ide" "$lease.ide-token"

case $transport in
login) listen=(--port 0) ;;
jump | srun) listen=(--bind 127.0.0.1 --port 0) ;;
jump-socket) listen=(--listen "unix:$lease.sock") ;;
esac
# What a login profile sets for proxies of its own would move this one out of the manager's sight.
# In a subshell only: it becomes the program.
without_settings() {
  unset "${!HPC_PROXY_@}"
  exec "$@"
}

without_settings "$hpc_proxy" "${listen[@]}" --verbose </dev/null &
proxy=$!
for ((tenths = 0; tenths < 300; tenths++)); do
  [ ! -s "$lease.json" ] && [ -z "$stopping" ] && runs "$proxy" || break
  nap 0.1
done
[ -z "$stopping" ] || finish 143 'asked to stop before hpc-proxy was ready'
[ -s "$lease.json" ] || finish 1 "hpc-proxy (\`$hpc_proxy\`) did not publish its port"

# For `hpc-proxy url` in the IDE's terminals.
export HPC_PROXY_PUBLIC_URL=$url

own_files=("$lease.ide" "$lease.ide-token")
# Each is complete when it appears under its name, and the place comes last: who sees it may read
# the token.
publish_ide() {
  mkdir -p -m 700 "$directory" &&
    printf '%s' "$ide_token" >"$lease.ide-token.new" &&
    mv -f -- "$lease.ide-token.new" "$lease.ide-token" &&
    printf '%s\n' "$ide_place" >"$lease.ide.new" &&
    mv -f -- "$lease.ide.new" "$lease.ide"
}
