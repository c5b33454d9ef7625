# What a container needs besides its runtime: settings, the steps of its runtime.json, time limits.
# shellcheck shell=sh
lib=/usr/lib/linuxkit
state=/run/linuxkit
running=$state/running # one empty file for each running service
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH

warn() {
	echo "service: $*" >&2
}

# setting NAME DEFAULT: sets the variable `setting` to what linuxkit.NAME=… on the kernel's command line says.
setting() {
	setting=$2
	read -r command_line </proc/cmdline
	for word in $command_line; do
		case $word in linuxkit."$1"=*) setting=${word#*=} ;; esac
	done
}

# Defines prepare and attach for the containers below DIRECTORY (see runtime.awk).
read_runtime() {
	eval "$(awk -v state=$state -f $lib/json.awk -f $lib/runtime.awk "$1"/*/runtime.json "$1"/*/config.json)"
}

make_directories() {
	mkdir -p "$@"
}

# mount_one TYPE SOURCE TARGET OPTIONS
mount_one() {
	case ,$4, in
	*,bind,* | *,rbind,* | *,remount,*) /bin/mount -o "$4" "${2:-none}" "$3" ;;
	*)
		if [ "$1" = bind ]; then
			/bin/mount -o "bind${4:+,$4}" "$2" "$3"
		else
			/bin/mount -t "${1:-none}" ${4:+-o "$4"} "${2:-none}" "$3"
		fi
		;;
	esac || warn "cannot mount $2 on $3"
}

# add_interface NAME KIND PEER CREATE_IN_ROOT PID: makes a link, or takes the one there is, and moves it to PID's
# network namespace. A kind made in the root namespace keeps its socket there (wireguard wants that).
add_interface() {
	kind=${2:-${3:+veth}}
	case $kind$4 in
	veth*) ip link add "$1" type veth && name_peer "$1" "$3" || return 1 ;;
	true | false) ;;
	*true) ip link add "$1" type "$kind" || return 1 ;;
	*)
		nsenter -t "$5" -n ip link add "$1" type "$kind"
		return
		;;
	esac
	ip link set "$1" netns "$5"
}

# name_peer NAME PEER: busybox's ip cannot name the other end of a pair when it makes it.
name_peer() {
	read -r index <"/sys/class/net/$1/iflink"
	for link in /sys/class/net/*; do
		read -r other <"$link/ifindex"
		[ "$other" != "$index" ] || ip link set "${link##*/}" name "$2" || return 1
	done
}

# bind_namespace KIND PATH PID: keeps a namespace of PID at PATH.
bind_namespace() {
	mkdir -p "${2%/*}" && : >"$2" && /bin/mount -o bind "/proc/$3/ns/$1" "$2"
}

# wait_until_gone FILE SECONDS: false when FILE is still there afterwards.
wait_until_gone() {
	tenths=$(($2 * 10))
	while [ -e "$1" ]; do
		[ "$tenths" -gt 0 ] || return 1
		tenths=$((tenths - 1))
		sleep 0.1
	done
}
