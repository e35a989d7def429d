# What rows find: scripts to submit in a directory of their own, and words for what takes many commands.
unset LD_LIBRARY_PATH SLURM_CONF
mkdir -p ~/scripts
cd ~/scripts
printf '#!/bin/sh\ntrue\n' >ok.sh
printf '#!/bin/sh\nexit 3\n' >e3.sh
printf '#!/bin/sh\nexec sleep 1000\n' >sleep.sh
printf '#!/bin/sh\nuntil [ -e go ]; do sleep 0.05; done\n' >wait.sh
printf 'echo x\n' >noshebang.sh
printf '#!/bin/sh\r\ntrue\r\n' >crlf.sh
printf '' >empty.sh
printf '\n \n' >blank.sh
printf '#!/bin/sh\n#SBATCH --bogus=1\ntrue\n' >badopt.sh
printf '#!/bin/sh\n#SBATCH -J inside -p debug\ntrue\n' >named.sh
printf '#!/nonexist/sh\ntrue\n' >nointerpreter.sh
chmod 755 *.sh

# A process that notes its pid and what it hears, and does not end of its own accord.
cat >listener <<'END'
#!/bin/bash
for signal in CONT TERM USR1; do trap "echo $signal >>$1.heard" $signal; done
echo $$ >$1.tmp && mv $1.tmp $1.pid
while :; do sleep 0.03; done
END
# Every shape but that of the batch process itself.
cat >shapes <<'END'
./listener background &
nohup ./listener nohup >/dev/null 2>&1 &
setsid ./listener setsid &
(setsid ./listener daemon </dev/null >/dev/null 2>&1 &)
until [ -e background.pid -a -e nohup.pid -a -e setsid.pid -a -e daemon.pid ]; do sleep 0.02; done
END
chmod 755 listener

# fresh NAME: an empty directory with the scripts in it.
fresh() {
  rm -rf ~/"$1"
  mkdir ~/"$1"
  cd ~/"$1"
  cp ~/scripts/* .
  unset -v $(compgen -v | grep -E '^[A-Z]$')
}

# awaits JOB STATE..: until squeue shows it in one of these states.
awaits() {
  local job=$1 state
  shift
  for ((tries = 0; tries < 2400; tries++)); do
    state=$(squeue -h -t all -j "$job" -o %T)
    for wanted; do [ "$state" != "$wanted" ] || return 0; done
    sleep 0.05
  done
  echo "job $job is $state, not $*"
  return 1
}

# awaits_file NAME: until it is there with something in it; then it is printed.
awaits_file() {
  for ((tries = 0; tries < 1200; tries++)); do
    [ ! -s "$1" ] || { cat "$1"; return 0; }
    sleep 0.05
  done
  echo "no $1"
  return 1
}

# nothing_left: until squeue shows no job.
nothing_left() {
  for ((tries = 0; tries < 1200; tries++)); do
    [ -n "$(squeue -h)" ] || return 0
    sleep 0.05
  done
  squeue
  return 1
}

# trace JOB [FORMAT]: what squeue shows, whenever that changes, until the job is over.
trace() {
  local last= now
  for ((tries = 0; tries < 3000; tries++)); do
    now=$(squeue -h -t all -j "$1" -o "${2:-%T|%r|%N}")
    [ "$now" = "$last" ] || echo "$now"
    last=$now
    case $now in COMPLETED* | FAILED* | CANCELLED* | TIMEOUT* | NODE_FAIL* | '') return ;; esac
    sleep 0.02
  done
}

# on_node COMMAND: runs it on node01, in a job.
on_node() {
  sbatch --quiet --wait --nodelist=node01 --output=on_node.out --wrap "$1; true"
  cat on_node.out
}

# shows JOB FIELD..: fields of `scontrol show job`.
shows() {
  local job=$1 field
  shift
  for field; do scontrol show job "$job" | tr ' ' '\n' | grep "^$field="; done
}

# heard SHAPE..: what each has heard, sorted, for bash runs pending traps as it likes.
heard() {
  local shape
  for shape; do echo "$shape: $(sort -u "$shape.heard" 2>/dev/null | tr '\n' ' ')" | sed 's/ $//'; done
}

# json PATH FIELD..: fields of what is at a path of the document; all of its names without any.
json() {
  node -e '
    const [path, ...fields] = process.argv.slice(1);
    const words = path.split(/[.[\]]+/).filter(Boolean);
    const value = words.reduce((value, word) => value?.[word], JSON.parse(require("fs").readFileSync(0)));
    if (fields.length === 0) console.log(Object.keys(value ?? {}).sort().join("\n"));
    // In the order of their names, as objects have none.
    const sorted = (_, value) => value?.constructor === Object
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1)) : value;
    for (const field of fields) console.log(`${field}: ${JSON.stringify(value?.[field], sorted)}`);
  ' "$@"
}

# job ID FIELD..: fields of a job in the document that squeue prints.
job() {
  node -e '
    const [id, ...fields] = process.argv.slice(1);
    const { jobs } = JSON.parse(require("fs").readFileSync(0));
    const found = jobs.find((job) => job.job_id === Number(id));
    for (const field of fields) console.log(`${field}: ${JSON.stringify(found?.[field])}`);
  ' "$@"
}
