# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_tcpwarden_global_optspecs
    string join \n h/help V/version
end

function __fish_tcpwarden_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_tcpwarden_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_tcpwarden_using_subcommand
    set -l cmd (__fish_tcpwarden_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c tcpwarden -n "__fish_tcpwarden_needs_command" -s h -l help -d 'Print help'
complete -c tcpwarden -n "__fish_tcpwarden_needs_command" -s V -l version -d 'Print version'
complete -c tcpwarden -n "__fish_tcpwarden_needs_command" -f -a "run" -d 'Run the daemon; with no file, built-in defaults'
complete -c tcpwarden -n "__fish_tcpwarden_needs_command" -f -a "check" -d 'Tell whether the config is right, what this kernel can do, and what will be degraded'
complete -c tcpwarden -n "__fish_tcpwarden_needs_command" -f -a "census" -d 'Count all TCP sockets once, per peer and state, over netlink unless --census says otherwise; needs no daemon and no rights'
complete -c tcpwarden -n "__fish_tcpwarden_needs_command" -f -a "top" -d 'Watch the peers live in a terminal, as the daemon knows them; without a daemon, their sockets'
complete -c tcpwarden -n "__fish_tcpwarden_needs_command" -f -a "report" -d 'Write up an incident from the history, whether the daemon runs or not'
complete -c tcpwarden -n "__fish_tcpwarden_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand run" -l config.file -d 'Configuration file (TOML)' -r -F
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand run" -l web.listen-address -d 'Address and port to serve on [default: 127.0.0.1:9796]' -r
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand run" -l web.config.file -d 'File that protects what is served: TLS and users (YAML, as of the Prometheus exporters)' -r -F
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand run" -l web.telemetry-path -d 'Path of the metrics [default: /metrics]' -r
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand run" -l web.max-requests -d 'Scrapes answered at the same time, 0 for no limit [default: 40]' -r
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand run" -l state.directory -d 'Where state is kept over a restart [default: /var/lib/tcpwarden]' -r -F
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand run" -l hooks -d 'How to hook the kernel\'s events' -r -f -a "auto\t'Typed tracepoints, and classic ones where those fail'
btf\t'Only typed tracepoints'
tracepoint\t'Only classic tracepoints'"
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand run" -l census -d 'How to count the sockets' -r -f -a "auto\t'The kernel\'s iterator, and netlink where that fails'
iter\t'Only the iterator'
netlink\t'Only netlink'"
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand check" -l config.file -d 'Configuration file (TOML)' -r -F
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand check" -l web.config.file -d 'File that protects what is served: TLS and users (YAML, as of the Prometheus exporters)' -r -F
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand check" -l hooks -d 'How to hook the kernel\'s events' -r -f -a "auto\t'Typed tracepoints, and classic ones where those fail'
btf\t'Only typed tracepoints'
tracepoint\t'Only classic tracepoints'"
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand check" -l census -d 'How to count the sockets' -r -f -a "auto\t'The kernel\'s iterator, and netlink where that fails'
iter\t'Only the iterator'
netlink\t'Only netlink'"
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand census" -l census -d 'How to count the sockets' -r -f -a "auto\t'The kernel\'s iterator, and netlink where that fails'
iter\t'Only the iterator'
netlink\t'Only netlink'"
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand census" -l json -d 'Print JSON instead of a table'
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand census" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand top" -l url -d 'Where the daemon serves [default: http://127.0.0.1:9796, and a census where nobody answers there]' -r
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand top" -l authorization.file -d 'File whose first line is the value of the Authorization header, such as "Basic …"' -r
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand top" -l ca.file -d 'File with the only certificate authorities that may vouch for the daemon (PEM) [default: those the system trusts]' -r
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand top" -l no-color -d 'No colours, as with NO_COLOR in the environment'
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand top" -s h -l help -d 'Print help'
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand report" -l since -d 'Begin: how long ago (2h), or a time in UTC [default: just before the latest incident]' -r
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand report" -l until -d 'End [default: now, or just after the latest incident]' -r
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand report" -l peer -d 'Only about this peer: an address, or the name of a group' -r
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand report" -l format -d 'How it is written [default: as the output\'s name says, else markdown]' -r -f -a "markdown\t'For people, in a terminal, a ticket or a wiki'
html\t'For people, a page of its own with pictures'
json\t'For programs'"
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand report" -s o -l output -d 'File to write it to [default: the terminal]' -r -F
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand report" -l state.directory -d 'The daemon\'s state directory' -r -F
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand report" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand help; and not __fish_seen_subcommand_from run check census top report help" -f -a "run" -d 'Run the daemon; with no file, built-in defaults'
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand help; and not __fish_seen_subcommand_from run check census top report help" -f -a "check" -d 'Tell whether the config is right, what this kernel can do, and what will be degraded'
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand help; and not __fish_seen_subcommand_from run check census top report help" -f -a "census" -d 'Count all TCP sockets once, per peer and state, over netlink unless --census says otherwise; needs no daemon and no rights'
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand help; and not __fish_seen_subcommand_from run check census top report help" -f -a "top" -d 'Watch the peers live in a terminal, as the daemon knows them; without a daemon, their sockets'
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand help; and not __fish_seen_subcommand_from run check census top report help" -f -a "report" -d 'Write up an incident from the history, whether the daemon runs or not'
complete -c tcpwarden -n "__fish_tcpwarden_using_subcommand help; and not __fish_seen_subcommand_from run check census top report help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
