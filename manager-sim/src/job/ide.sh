set -m # a process group of its own
"${inside[@]}" bash -c "$ide_command" </dev/null &
ide=$!
set +m
while [ -z "$stopping" ] && runs "$ide" && { [ -z "$proxy" ] || runs "$proxy"; }; do
  nap 1
  # Somebody may have removed them, as with `rm -r ~/.hpc-proxy`; the proxy puts its own back.
  for file in "${own_files[@]}"; do
    [ -e "$file" ] || { publish_ide 2>/dev/null || :; }
  done
done

[ -z "$stopping" ] || finish 143 'asked to stop'
if runs "$ide"; then
  wait "$proxy"
  finish 1 "hpc-proxy ended by itself with status $?"
fi
wait "$ide"
status=$?
finish "$status" "the IDE ended by itself with status $status"
