
# The IDE, and so every terminal in it, gets a localhost of its own. Its own port, if it has one, stays
# where the tunnel leads. Where the node has no such localhost to give, exec says so in this log and runs the IDE all the
# same. What a login profile sets for exec holds, but for the place where exec and the proxy above meet.
# In a subshell only: it becomes the program.
in_own_localhost() {
  unset HPC_PROXY_STATE_DIR
  local public=${IDE_PORT:-}${HPC_PROXY_PUBLIC_PORTS:+,$HPC_PROXY_PUBLIC_PORTS}
  exec "$hpc_proxy" exec ${public:+--public "${public#,}"} -- "$@"
}
inside=(in_own_localhost)
