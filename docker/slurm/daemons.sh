# Sourced by up and down: where the sandbox lies, and how to tell whether one of its daemons lives.
ROOT=${SLURM_SANDBOX:-${TMPDIR:-/tmp}/mimic-slurm}
PATH=$PATH:/usr/sbin:/sbin
export SLURM_CONF=$ROOT/etc/slurm.conf
NODES=(c1 c2 g1 g2)
HOSTS_MARK=" # slurm sandbox $ROOT"

say() { printf 'slurm: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# alive NAME: does the daemon whose pid file is run/NAME.pid live? Its pid may have gone to another program, or to a zombie.
alive() {
    local pid
    pid=$(cat "$ROOT/run/$1.pid" 2>/dev/null) && [ -n "$pid" ] && case $(readlink "/proc/$pid/exe") in */"${1%%-*}" | */"${1%%-*}-wlm") ;; *) false ;; esac
}

# wait_until SECONDS COMMAND...: poll the command; false when it never succeeded.
wait_until() {
    local end=$((SECONDS + $1))
    shift
    until timeout 5 "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}

# edit_hosts [NAME...]: have these names mean loopback, none of them when there are none. /etc/hosts is rewritten in place (it
# may be a bind mount, which cannot be replaced), by one sandbox at a time. A name of this machine that means another address
# there is overruled from the first line; the nodes' stand last, or loopback would be called c1.
edit_hosts() {
    local text line="127.0.0.1 $*$HOSTS_MARK"
    exec 9<>/etc/hosts
    flock 9
    text=$(awk -v mark="$HOSTS_MARK" 'substr($0, length($0) - length(mark) + 1) != mark' /etc/hosts)
    case $# in
        0) ;;
        ${#NODES[@]}) text+=$'\n'$line ;;
        *) text=$line$'\n'$text ;;
    esac
    printf '%s\n' "$text" >/etc/hosts
    exec 9>&-
}
