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

# The shell is a child of PID 1's namespace: stop with the service, not with a hang-up of one console.
trap 'kill $(jobs -p) 2>/dev/null; exit 0' TERM INT
started=
read -r command_line </proc/cmdline
for word in $command_line; do
	case $word in console=*) start_getty "${word#console=}" ;; esac
done
[ -n "$started" ] || start_getty console
wait
