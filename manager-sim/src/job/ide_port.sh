
IDE_PORT=$(without_settings "$hpc_proxy" free-port) || finish 1 'there is no free port for the IDE'
IDE_TOKEN_FILE=$lease.ide-token
export IDE_PORT IDE_TOKEN_FILE

own_files=("$lease.ide" "$lease.ide-token")
# The port comes last: who sees it may read the token.
od -An -v -N32 -tx1 /dev/urandom | tr -d ' \n' >"$lease.ide-token.new" &&
  mv -f -- "$lease.ide-token.new" "$lease.ide-token" &&
  publish "$IDE_PORT" ||
  finish 1 "cannot write to \`$directory\`"
