umask 077
proxy='' ide='' ide_socket='' inside=() own_files=() stopping=''

say() { printf 'job %s: %s\n' "$SLURM_JOB_ID" "$1"; }

# On most clusters (proctrack/cgroup) Slurm signals the batch shell and nobody else: what runs
# below it hears of the end from here, or never. The IDE is told with its whole process group.
tell() {
  [ -z "$proxy" ] || kill "-$1" "$proxy"
  [ -z "$ide" ] || kill "-$1" -- "-$ide"
} 2>/dev/null

stop() {
  stopping=yes
  tell TERM
}
trap stop TERM INT

runs() { [ -n "$1" ] && kill -0 -- "$1"; } 2>/dev/null

# A trap waits for a foreground child to end, but not for `wait`.
nap() {
  sleep "$1" &
  wait "$!"
}

# finish STATUS SENTENCE: the one way out. Slurm kills after its KillWait, 30 s by default.
finish() {
  say "$2"
  [ "${#own_files[@]}" -eq 0 ] || rm -f -- "${own_files[@]}"
  [ -z "$ide_socket" ] || rm -f -- "$ide_socket"
  tell TERM
  for ((tenths = 0; tenths < 150; tenths++)); do
    runs "$proxy" || runs "${ide:+-$ide}" || break
    nap 0.1
  done
  tell KILL
  exit "$1"
}

