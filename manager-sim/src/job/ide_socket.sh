
# In a directory of the user's alone; no other job on this node has the name.
ide_name=ide-$SLURM_JOB_ID-$$
IDE_SOCKET=$(without_settings "$hpc_proxy" socket-path "$ide_name") ||
  finish 1 "there is no safe place for the IDE's socket"
export IDE_SOCKET
unset IDE_PORT IDE_TOKEN_FILE
# Left behind by a job that was killed.
rm -f -- "$IDE_SOCKET"

own_files=("$lease.ide" "$IDE_SOCKET")
publish "unix:$ide_name" || finish 1 "cannot write to \`$directory\`"
