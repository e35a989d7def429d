
IDE_PORT=$(without_settings "$hpc_proxy" free-port) || finish 1 'there is no free port for the IDE'
IDE_TOKEN_FILE=$lease.ide-token
export IDE_PORT IDE_TOKEN_FILE
ide_place=$IDE_PORT
ide_token=$(od -An -v -N32 -tx1 /dev/urandom | tr -d ' \n')
[ "${#ide_token}" -eq 64 ] && publish_ide || finish 1 "cannot write to \`$directory\`"
