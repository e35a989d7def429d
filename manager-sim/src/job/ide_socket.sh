
# In a directory of the user's alone; no other job on this node has the name.
ide_name=ide-$SLURM_JOB_ID-$$
ide_socket=$(without_settings "$hpc_proxy" socket-path "$ide_name") ||
  finish 1 "there is no safe place for the IDE's socket"
export IDE_SOCKET=$ide_socket
unset IDE_PORT IDE_TOKEN_FILE
# A job that was killed may have left it.
rm -f -- "$ide_socket"
ide_place=unix:$ide_name ide_token=''
publish_ide || finish 1 "cannot write to \`$directory\`"
