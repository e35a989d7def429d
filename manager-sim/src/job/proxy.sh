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

IDE_PORT=$(without_settings "$hpc_proxy" free-port) || finish 1 'there is no free port for the IDE'
IDE_TOKEN_FILE=$lease.ide-token
# For `hpc-proxy url` in the IDE's terminals.
HPC_PROXY_PUBLIC_URL=$url
export IDE_PORT IDE_TOKEN_FILE HPC_PROXY_PUBLIC_URL

own_files=("$lease.ide" "$lease.ide-token")
ide_token=$(od -An -v -N32 -tx1 /dev/urandom | tr -d ' \n')

# Each is complete when it appears under its name, and the port comes last: who sees it may read
# the token.
publish_ide() {
  mkdir -p -m 700 "$directory" &&
    printf '%s' "$ide_token" >"$IDE_TOKEN_FILE.new" &&
    mv -f -- "$IDE_TOKEN_FILE.new" "$IDE_TOKEN_FILE" &&
    printf '%s\n' "$IDE_PORT" >"$lease.ide.new" &&
    mv -f -- "$lease.ide.new" "$lease.ide"
}
[ "${#ide_token}" -eq 64 ] && publish_ide || finish 1 "cannot write to \`$directory\`"
