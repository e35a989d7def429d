# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_hpc_proxy_global_optspecs
    string join \n listen= port= bind= auth= grace= max-connections= socket-dir= low-ports upgrade= host-suffix= allow-root rewrite= base-rewrite= job= node= home= port-file= state-dir= runtime-dir= titles= log-format= verbose= no-color= h/help V/version
end

function __fish_hpc_proxy_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_hpc_proxy_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_hpc_proxy_using_subcommand
    set -l cmd (__fish_hpc_proxy_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -l listen -d 'Where to listen: `tcp`, as --bind and --port say, or `unix:PATH`, a socket in a directory of yours alone, which needs no token. Several are given one by one or with commas' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -l port -d 'The port to listen on; 0 is any free one' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -l bind -d 'The address to listen on [default: 0.0.0.0, so that `ssh -L` through a login node reaches it; 127.0.0.1 with `--auth none`]' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -l auth -d 'What a request must show' -r -f -a "token\t'Those who send the token of the token file, or come by a one-time link'
none\t'Everybody who can connect. Only your own servers are shown, but to anybody'"
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -l grace -d 'How long requests and WebSockets may go on after SIGTERM, such as `10s` or `500ms`' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -l max-connections -d 'How many connections may be open at once; 0 is as many as the limit on open files allows, two for each, but no more than 16384' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -l socket-dir -d 'Where the sockets are that /sock/NAME/ leads to [default: `sock` in the state directory]' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -l upgrade -d 'Another protocol than WebSocket that a connection may be upgraded to. Several are given one by one or with commas' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -l host-suffix -d 'The domain below which each port has a host of its own: http://5500.localhost:PORT/ is your server on port 5500, with its own paths and an origin of its own. Empty: there are none' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -l rewrite -d 'Whether the URLs in pages and style sheets are moved under /port/N/: `auto` or `off` for all servers, `PORT=auto` or `PORT=off` for one. `urls` is `auto`, but does not hide /port/N from routers in the page, which compare the address with their routes. Several are given one by one or with commas [default: auto]. Redirects and cookies are always moved' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -l base-rewrite -d 'The original proxy\'s name for `--rewrite auto`, or `off` where it is false' -r -f -a "true\t''
false\t''"
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -l job -d 'Slurm\'s name for the job that this runs in' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -l node -d 'Slurm\'s name for the node that this runs on' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -l home -d 'Where `.hpc-proxy` is' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -l port-file -d 'The port file; its directory also gets the record and the token [default: ~/.hpc-proxy/port]' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -l state-dir -d 'A directory of this node\'s own for what a running proxy keeps there, such as the Unix sockets of dev servers [default: $XDG_RUNTIME_DIR/hpc-proxy, else /tmp/hpc-proxy-UID]' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -l runtime-dir -d 'Where the node keeps this user\'s runtime files' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -l titles -d 'Whether the list of your servers shows the titles of their pages. Each server of the session is then asked for its first page now and then' -r -f -a "true\t''
false\t''"
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -l log-format -d 'How the log is written' -r -f -a "human\t'A line for people'
json\t'A JSON object a line'"
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -l verbose -d 'Logs every request (debug level)' -r -f -a "true\t''
false\t''"
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -l no-color -d 'Any value switches colours off (no-color.org)' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -l low-ports -d 'Forwards to target ports below 1024 too'
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -l allow-root -d 'Serves as root too, whose servers are the node\'s own'
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -s V -l version -d 'Print version'
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -f -a "serve" -d 'Serves until SIGTERM (the default)'
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -f -a "url" -d 'Prints where a dev server is opened: at the manager where the session has one, else by a link that signs a browser in to the running proxy, once'
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -f -a "ports" -d 'Lists your own listening servers on this node; a proxy need not be running'
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -f -a "bridge" -d 'Joins stdin and stdout to the running proxy of this job or node, for `ssh LOGIN srun --overlap --jobid JOB hpc-proxy bridge`'
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -f -a "doctor" -d 'Tells what this node offers, what is missing, and what follows from it'
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -f -a "free-port" -d 'Prints a TCP port of this node that is free now'
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -f -a "socket-path" -d 'Prints where a dev server has to listen so that /sock/NAME/ leads to it: a Unix socket that no other user of this node can connect to'
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -f -a "exec" -d 'Runs a command, and all that it starts, in a localhost of your own: its servers have their ports whatever other users of this node listen on, and its clients meet your servers alone. Needs no privilege. Exits as the command does, or with 125 when it cannot be run in the way that was asked for, 126 when it is no program, 127 when there is none'
complete -c hpc-proxy -n "__fish_hpc_proxy_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand serve" -l listen -d 'Where to listen: `tcp`, as --bind and --port say, or `unix:PATH`, a socket in a directory of yours alone, which needs no token. Several are given one by one or with commas' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand serve" -l port -d 'The port to listen on; 0 is any free one' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand serve" -l bind -d 'The address to listen on [default: 0.0.0.0, so that `ssh -L` through a login node reaches it; 127.0.0.1 with `--auth none`]' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand serve" -l auth -d 'What a request must show' -r -f -a "token\t'Those who send the token of the token file, or come by a one-time link'
none\t'Everybody who can connect. Only your own servers are shown, but to anybody'"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand serve" -l grace -d 'How long requests and WebSockets may go on after SIGTERM, such as `10s` or `500ms`' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand serve" -l max-connections -d 'How many connections may be open at once; 0 is as many as the limit on open files allows, two for each, but no more than 16384' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand serve" -l socket-dir -d 'Where the sockets are that /sock/NAME/ leads to [default: `sock` in the state directory]' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand serve" -l upgrade -d 'Another protocol than WebSocket that a connection may be upgraded to. Several are given one by one or with commas' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand serve" -l host-suffix -d 'The domain below which each port has a host of its own: http://5500.localhost:PORT/ is your server on port 5500, with its own paths and an origin of its own. Empty: there are none' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand serve" -l rewrite -d 'Whether the URLs in pages and style sheets are moved under /port/N/: `auto` or `off` for all servers, `PORT=auto` or `PORT=off` for one. `urls` is `auto`, but does not hide /port/N from routers in the page, which compare the address with their routes. Several are given one by one or with commas [default: auto]. Redirects and cookies are always moved' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand serve" -l base-rewrite -d 'The original proxy\'s name for `--rewrite auto`, or `off` where it is false' -r -f -a "true\t''
false\t''"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand serve" -l job -d 'Slurm\'s name for the job that this runs in' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand serve" -l node -d 'Slurm\'s name for the node that this runs on' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand serve" -l home -d 'Where `.hpc-proxy` is' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand serve" -l port-file -d 'The port file; its directory also gets the record and the token [default: ~/.hpc-proxy/port]' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand serve" -l state-dir -d 'A directory of this node\'s own for what a running proxy keeps there, such as the Unix sockets of dev servers [default: $XDG_RUNTIME_DIR/hpc-proxy, else /tmp/hpc-proxy-UID]' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand serve" -l runtime-dir -d 'Where the node keeps this user\'s runtime files' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand serve" -l titles -d 'Whether the list of your servers shows the titles of their pages. Each server of the session is then asked for its first page now and then' -r -f -a "true\t''
false\t''"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand serve" -l log-format -d 'How the log is written' -r -f -a "human\t'A line for people'
json\t'A JSON object a line'"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand serve" -l verbose -d 'Logs every request (debug level)' -r -f -a "true\t''
false\t''"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand serve" -l no-color -d 'Any value switches colours off (no-color.org)' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand serve" -l low-ports -d 'Forwards to target ports below 1024 too'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand serve" -l allow-root -d 'Serves as root too, whose servers are the node\'s own'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand url" -l framework -d 'Prints how a dev server of this kind is told the path that it is opened by, for those who prefer that to rewritten pages' -r -f -a "angular\t''
dash\t''
django\t''
fastapi\t''
flask\t''
gradio\t''
gunicorn\t''
jupyter\t''
mkdocs\t''
next\t''
nuxt\t''
shiny\t''
sphinx\t''
streamlit\t''
tensorboard\t''
vite\t''
webpack\t''"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand url" -l public-url -d 'Where browsers see this proxy, as a session\'s manager says' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand url" -l job -d 'Slurm\'s name for the job that this runs in' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand url" -l node -d 'Slurm\'s name for the node that this runs on' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand url" -l home -d 'Where `.hpc-proxy` is' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand url" -l port-file -d 'The port file; its directory also gets the record and the token [default: ~/.hpc-proxy/port]' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand url" -l state-dir -d 'A directory of this node\'s own for what a running proxy keeps there, such as the Unix sockets of dev servers [default: $XDG_RUNTIME_DIR/hpc-proxy, else /tmp/hpc-proxy-UID]' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand url" -l runtime-dir -d 'Where the node keeps this user\'s runtime files' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand url" -l titles -d 'Whether the list of your servers shows the titles of their pages. Each server of the session is then asked for its first page now and then' -r -f -a "true\t''
false\t''"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand url" -l log-format -d 'How the log is written' -r -f -a "human\t'A line for people'
json\t'A JSON object a line'"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand url" -l verbose -d 'Logs every request (debug level)' -r -f -a "true\t''
false\t''"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand url" -l no-color -d 'Any value switches colours off (no-color.org)' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand url" -l path -d 'Prints the path alone, for which no proxy need be running'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand url" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand ports" -l job -d 'Slurm\'s name for the job that this runs in' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand ports" -l node -d 'Slurm\'s name for the node that this runs on' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand ports" -l home -d 'Where `.hpc-proxy` is' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand ports" -l port-file -d 'The port file; its directory also gets the record and the token [default: ~/.hpc-proxy/port]' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand ports" -l state-dir -d 'A directory of this node\'s own for what a running proxy keeps there, such as the Unix sockets of dev servers [default: $XDG_RUNTIME_DIR/hpc-proxy, else /tmp/hpc-proxy-UID]' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand ports" -l runtime-dir -d 'Where the node keeps this user\'s runtime files' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand ports" -l titles -d 'Whether the list of your servers shows the titles of their pages. Each server of the session is then asked for its first page now and then' -r -f -a "true\t''
false\t''"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand ports" -l log-format -d 'How the log is written' -r -f -a "human\t'A line for people'
json\t'A JSON object a line'"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand ports" -l verbose -d 'Logs every request (debug level)' -r -f -a "true\t''
false\t''"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand ports" -l no-color -d 'Any value switches colours off (no-color.org)' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand ports" -l json -d 'Prints JSON, for programs'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand ports" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand bridge" -l job -d 'Slurm\'s name for the job that this runs in' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand bridge" -l node -d 'Slurm\'s name for the node that this runs on' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand bridge" -l home -d 'Where `.hpc-proxy` is' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand bridge" -l port-file -d 'The port file; its directory also gets the record and the token [default: ~/.hpc-proxy/port]' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand bridge" -l state-dir -d 'A directory of this node\'s own for what a running proxy keeps there, such as the Unix sockets of dev servers [default: $XDG_RUNTIME_DIR/hpc-proxy, else /tmp/hpc-proxy-UID]' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand bridge" -l runtime-dir -d 'Where the node keeps this user\'s runtime files' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand bridge" -l titles -d 'Whether the list of your servers shows the titles of their pages. Each server of the session is then asked for its first page now and then' -r -f -a "true\t''
false\t''"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand bridge" -l log-format -d 'How the log is written' -r -f -a "human\t'A line for people'
json\t'A JSON object a line'"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand bridge" -l verbose -d 'Logs every request (debug level)' -r -f -a "true\t''
false\t''"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand bridge" -l no-color -d 'Any value switches colours off (no-color.org)' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand bridge" -l streams -d 'Carries many connections at once, by yamux, as hpc-manager\'s `transport = "srun"` does'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand bridge" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand doctor" -l job -d 'Slurm\'s name for the job that this runs in' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand doctor" -l node -d 'Slurm\'s name for the node that this runs on' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand doctor" -l home -d 'Where `.hpc-proxy` is' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand doctor" -l port-file -d 'The port file; its directory also gets the record and the token [default: ~/.hpc-proxy/port]' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand doctor" -l state-dir -d 'A directory of this node\'s own for what a running proxy keeps there, such as the Unix sockets of dev servers [default: $XDG_RUNTIME_DIR/hpc-proxy, else /tmp/hpc-proxy-UID]' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand doctor" -l runtime-dir -d 'Where the node keeps this user\'s runtime files' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand doctor" -l titles -d 'Whether the list of your servers shows the titles of their pages. Each server of the session is then asked for its first page now and then' -r -f -a "true\t''
false\t''"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand doctor" -l log-format -d 'How the log is written' -r -f -a "human\t'A line for people'
json\t'A JSON object a line'"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand doctor" -l verbose -d 'Logs every request (debug level)' -r -f -a "true\t''
false\t''"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand doctor" -l no-color -d 'Any value switches colours off (no-color.org)' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand doctor" -l json -d 'Prints JSON, for programs'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand free-port" -l job -d 'Slurm\'s name for the job that this runs in' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand free-port" -l node -d 'Slurm\'s name for the node that this runs on' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand free-port" -l home -d 'Where `.hpc-proxy` is' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand free-port" -l port-file -d 'The port file; its directory also gets the record and the token [default: ~/.hpc-proxy/port]' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand free-port" -l state-dir -d 'A directory of this node\'s own for what a running proxy keeps there, such as the Unix sockets of dev servers [default: $XDG_RUNTIME_DIR/hpc-proxy, else /tmp/hpc-proxy-UID]' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand free-port" -l runtime-dir -d 'Where the node keeps this user\'s runtime files' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand free-port" -l titles -d 'Whether the list of your servers shows the titles of their pages. Each server of the session is then asked for its first page now and then' -r -f -a "true\t''
false\t''"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand free-port" -l log-format -d 'How the log is written' -r -f -a "human\t'A line for people'
json\t'A JSON object a line'"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand free-port" -l verbose -d 'Logs every request (debug level)' -r -f -a "true\t''
false\t''"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand free-port" -l no-color -d 'Any value switches colours off (no-color.org)' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand free-port" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand socket-path" -l socket-dir -d 'Where the sockets are that /sock/NAME/ leads to [default: `sock` in the state directory]' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand socket-path" -l job -d 'Slurm\'s name for the job that this runs in' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand socket-path" -l node -d 'Slurm\'s name for the node that this runs on' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand socket-path" -l home -d 'Where `.hpc-proxy` is' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand socket-path" -l port-file -d 'The port file; its directory also gets the record and the token [default: ~/.hpc-proxy/port]' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand socket-path" -l state-dir -d 'A directory of this node\'s own for what a running proxy keeps there, such as the Unix sockets of dev servers [default: $XDG_RUNTIME_DIR/hpc-proxy, else /tmp/hpc-proxy-UID]' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand socket-path" -l runtime-dir -d 'Where the node keeps this user\'s runtime files' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand socket-path" -l titles -d 'Whether the list of your servers shows the titles of their pages. Each server of the session is then asked for its first page now and then' -r -f -a "true\t''
false\t''"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand socket-path" -l log-format -d 'How the log is written' -r -f -a "human\t'A line for people'
json\t'A JSON object a line'"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand socket-path" -l verbose -d 'Logs every request (debug level)' -r -f -a "true\t''
false\t''"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand socket-path" -l no-color -d 'Any value switches colours off (no-color.org)' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand socket-path" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand exec" -l isolation -d 'How localhost is made private' -r -f -a "auto\t'By seccomp where it is to be had; else not at all, which is said'
seccomp\t'By seccomp, or the command is not run'
none\t'Not at all. $HPC_PROXY_LOCALHOST still is an address of your own to listen on'"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand exec" -l lock -d 'Whether private servers are kept from other users who know where they are' -r -f -a "auto\t'Where the kernel offers it'
on\t'Yes, or the command is not run'
off\t'No'"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand exec" -l public -d 'A port whose servers others are to reach as ever, such as one that a tunnel leads to, or a range of them. Several are given one by one or with commas' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand exec" -l job -d 'Slurm\'s name for the job that this runs in' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand exec" -l node -d 'Slurm\'s name for the node that this runs on' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand exec" -l home -d 'Where `.hpc-proxy` is' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand exec" -l port-file -d 'The port file; its directory also gets the record and the token [default: ~/.hpc-proxy/port]' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand exec" -l state-dir -d 'A directory of this node\'s own for what a running proxy keeps there, such as the Unix sockets of dev servers [default: $XDG_RUNTIME_DIR/hpc-proxy, else /tmp/hpc-proxy-UID]' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand exec" -l runtime-dir -d 'Where the node keeps this user\'s runtime files' -r -F
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand exec" -l titles -d 'Whether the list of your servers shows the titles of their pages. Each server of the session is then asked for its first page now and then' -r -f -a "true\t''
false\t''"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand exec" -l log-format -d 'How the log is written' -r -f -a "human\t'A line for people'
json\t'A JSON object a line'"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand exec" -l verbose -d 'Logs every request (debug level)' -r -f -a "true\t''
false\t''"
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand exec" -l no-color -d 'Any value switches colours off (no-color.org)' -r
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand exec" -l session -d 'A localhost of this Slurm job alone, which your other jobs on this node do not share'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand exec" -s q -l quiet -d 'Says nothing about it'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand exec" -l replace-sockets -d 'Replaces sockets also where that is not needed, to try it'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand exec" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand help; and not __fish_seen_subcommand_from serve url ports bridge doctor free-port socket-path exec help" -f -a "serve" -d 'Serves until SIGTERM (the default)'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand help; and not __fish_seen_subcommand_from serve url ports bridge doctor free-port socket-path exec help" -f -a "url" -d 'Prints where a dev server is opened: at the manager where the session has one, else by a link that signs a browser in to the running proxy, once'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand help; and not __fish_seen_subcommand_from serve url ports bridge doctor free-port socket-path exec help" -f -a "ports" -d 'Lists your own listening servers on this node; a proxy need not be running'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand help; and not __fish_seen_subcommand_from serve url ports bridge doctor free-port socket-path exec help" -f -a "bridge" -d 'Joins stdin and stdout to the running proxy of this job or node, for `ssh LOGIN srun --overlap --jobid JOB hpc-proxy bridge`'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand help; and not __fish_seen_subcommand_from serve url ports bridge doctor free-port socket-path exec help" -f -a "doctor" -d 'Tells what this node offers, what is missing, and what follows from it'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand help; and not __fish_seen_subcommand_from serve url ports bridge doctor free-port socket-path exec help" -f -a "free-port" -d 'Prints a TCP port of this node that is free now'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand help; and not __fish_seen_subcommand_from serve url ports bridge doctor free-port socket-path exec help" -f -a "socket-path" -d 'Prints where a dev server has to listen so that /sock/NAME/ leads to it: a Unix socket that no other user of this node can connect to'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand help; and not __fish_seen_subcommand_from serve url ports bridge doctor free-port socket-path exec help" -f -a "exec" -d 'Runs a command, and all that it starts, in a localhost of your own: its servers have their ports whatever other users of this node listen on, and its clients meet your servers alone. Needs no privilege. Exits as the command does, or with 125 when it cannot be run in the way that was asked for, 126 when it is no program, 127 when there is none'
complete -c hpc-proxy -n "__fish_hpc_proxy_using_subcommand help; and not __fish_seen_subcommand_from serve url ports bridge doctor free-port socket-path exec help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
