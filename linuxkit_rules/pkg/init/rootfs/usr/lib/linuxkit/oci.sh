# Containers straight through an OCI runtime: crun, or runc where there is no crun.
# shellcheck shell=sh
oci=/usr/bin/runc
[ ! -x /usr/bin/crun ] || oci=/usr/bin/crun

# crun copies itself to memory and starts again, so that no container can write to the program through
# /proc/self/exe. On a file system that cannot be written it needs not, which saves two of three starts; but it
# takes every tmpfs, the initramfs too, for such a copy that is not sealed. An overlay without an upper layer is
# read-only for good, and no tmpfs. (crun: src/libcrun/cloned_binary.c)
mount_read_only_crun() {
	if [ ! -e "$state/bin/crun" ]; then
		make_directories "$state/bin" "$state/none"
		/bin/mount -t overlay -o "ro,lowerdir=$state/none:/usr/bin" overlay "$state/bin" || return
	fi
	oci=$state/bin/crun
	export _LIBCONTAINER_CLONED_BINARY=1
}

[ $oci = /usr/bin/runc ] || mount_read_only_crun || warn "crun runs from where it lies"

# bundle run|create DIRECTORY NAME [OPTION…]
bundle() {
	command=$1 directory=$2 name=$3
	shift 3
	if [ $oci != /usr/bin/runc ]; then
		config=${directory%/*}
		set -- --config "$state/${config##*/}.${directory##*/}.json" "$@"
	fi
	$before $oci "$command" --bundle "$directory" "$@" "$name"
}

# run_once KIND: the containers of /containers/KIND one after the other, each with a time limit.
run_once() {
	[ -d "/containers/$1" ] || return 0
	read_runtime "/containers/$1"
	setting onboot_timeout 60
	limit=$setting failed=0
	for directory in "/containers/$1"/*; do
		[ -d "$directory" ] || continue
		name=${directory##*/}
		log=/var/log/$1.$name.log
		echo "$1: $name"
		run_limited "$directory" "$name" >"$log" 2>&1 </dev/null
		code=$?
		# A loop of built-ins shows a short log sooner than another process would.
		while IFS= read -r line || [ -n "$line" ]; do echo "$name: $line"; done <"$log"
		case $code in
		0) continue ;;
		124) warn "$1 $name was killed: it took more than $limit s (linuxkit.onboot_timeout=$limit)" ;;
		*) warn "$1 $name failed with exit status $code" ;;
		esac
		failed=1
	done
	return $failed
}

# run_limited DIRECTORY NAME: its exit status, 124 when it was killed after the limit.
run_limited() {
	before=
	prepare "$1" || return 125
	if [ -n "$attached" ]; then
		run_attached "$1" "$2" "$limit"
		return
	fi
	if [ "$limit" = 0 ]; then
		bundle run "$1" "$2"
		return
	fi
	before="timeout -s KILL $limit"
	bundle run "$1" "$2"
	code=$?
	# The runtime itself was killed if its container is still known.
	[ $code -ne 137 ] || ! $oci delete --force "$2" || code=124
	return $code
}

# run_attached DIRECTORY NAME SECONDS: with steps between creation and start. The container then is a child of
# PID 1, so its exit status is not known.
run_attached() {
	file=$state/$2.pid
	bundle create "$1" "$2" --pid-file "$file" || return 125
	read -r pid <"$file" || [ -n "$pid" ] || return 125
	if ! attach "$1" "$pid" || ! $oci start "$2"; then
		$oci delete --force "$2"
		return 125
	fi
	code=0
	if [ "$3" = 0 ]; then
		while [ -e "/proc/$pid" ]; do sleep 0.5; done
	else
		wait_until_gone "/proc/$pid" "$3" || code=124
	fi
	$oci delete --force "$2"
	return $code
}

start_service() {
	prepare "/containers/services/$1" || return 1
	: >"$running/$1"
	echo "$1" >>"$running.order"
	supervise "$1" </dev/null >>"/var/log/$1.log" 2>&1 &
}

# Lives as long as the service, and tells how it ended.
supervise() {
	before=
	if [ -n "$attached" ]; then
		run_attached "/containers/services/$1" "$1" 0
	else
		bundle run "/containers/services/$1" "$1"
	fi
	code=$?
	rm -f "$running/$1"
	echo "service: $1 ended with exit status $code"
	echo "service: $1 ended with exit status $code" >/dev/console
}

# KILL reaches every process of the service, its first one being gone or not.
signal_service() {
	case $2 in
	KILL) $oci kill --all "$1" KILL 2>/dev/null || $oci delete --force "$1" ;;
	*) $oci kill "$1" "$2" ;;
	esac
}

forget_service() {
	$oci delete --force "$1"
}
