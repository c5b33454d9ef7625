#!/bin/sh
# A getty on every console= of the kernel's command line, started again whenever it ends.
set -u

# Root's password, if the machine was given one; without it nobody can log in, unless INSECURE=true.
[ ! -f /hostroot/etc/getty.shadow ] || {
	cat /hostroot/etc/getty.shadow
	echo
} >/etc/shadow

keep_getty() {
	while :; do
		getty "$@"
		sleep 1
	done
}

start_getty() {
	tty=${1%%,*}
	case " $started " in *" $tty "*) return ;; esac
	started="$started $tty"
	[ -c "/dev/$tty" ] || {
		echo "getty: console=$tty: there is no /dev/$tty" >&2
		return
	}
	speed=115200 term=vt100
	case $1 in *,[0-9]*) speed=${1#*,} speed=${speed%%[!0-9]*} ;; esac
	case $tty in tty[0-9]*) term=linux ;; esac
	if [ "${INSECURE-}" = true ]; then
		keep_getty -L -n -l /usr/lib/getty/root-shell "$speed" "$tty" "$term" &
	else
		keep_getty -L "$speed" "$tty" "$term" &
	fi
}

# Interactive shells ignore TERM, and without a PID namespace nothing else ends them with the service.
stop() {
	IFS=: read -r _ _ group </proc/self/cgroup
	while read -r process; do
		[ "$process" = $$ ] || kill -KILL "$process"
	done <"/sys/fs/cgroup$group/cgroup.procs"
	exit 0
}

trap stop TERM INT
started=
read -r command_line </proc/cmdline
for word in $command_line; do
	case $word in console=*) start_getty "${word#console=}" ;; esac
done
[ -n "$started" ] || start_getty console
wait
