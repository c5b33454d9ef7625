# Services through containerd. Its client, ctr, is told each service's namespace.
# shellcheck shell=sh
socket=/run/containerd/containerd.sock

start_containerd() {
	containerd >/var/log/containerd.log 2>&1 </dev/null &
	daemon=$!
	while [ ! -S $socket ]; do
		[ -e /proc/$daemon ] || {
			warn "containerd ended early; see /var/log/containerd.log"
			return 1
		}
		sleep 0.1
	done
	ctr events 2>/dev/null </dev/null | watch_events &
}

# One process for all services: marks those that ended and tells how.
watch_events() {
	while read -r line; do
		case $line in *" /tasks/exit "*) ;; *) continue ;; esac
		id=${line#*'"container_id":"'}
		id=${id%%'"'*}
		# An `exec` in a container ends with an id of its own.
		case $line in *'"id":"'"$id"'"'*) ;; *) continue ;; esac
		code=0
		case $line in
		*'"exit_status":'*)
			code=${line#*'"exit_status":'}
			code=${code%%[!0-9]*}
			;;
		esac
		rm -f "$running/$id"
		echo "service: $id ended with exit status $code" >>"/var/log/$id.log"
		echo "service: $id ended with exit status $code" >/dev/console
	done
}

start_service() {
	directory=/containers/services/$1
	prepare "$directory" || return 1
	namespace=${namespace:-services.linuxkit}
	spec=$state/$1.json
	awk -v rootfs="$directory/rootfs" -f $lib/json.awk -f $lib/root.awk "$directory/config.json" >"$spec" || return 1
	: >"$running/$1"
	echo "$1" >>"$running.order"
	if ctr -n "$namespace" run --detach --log-uri "file:///var/log/$1.log" --config "$spec" "$1" </dev/null; then
		echo "$namespace" >"$running/$1"
		[ -z "$attached" ] || attach "$directory" "$(task_pid "$1")"
	else
		rm -f "$running/$1"
		return 1
	fi
}

task_pid() {
	ctr -n "$namespace" task ls | awk -v name="$1" '$1 == name { print $2 }'
}

signal_service() {
	read -r namespace <"$running/$1"
	ctr -n "$namespace" task kill -s "SIG$2" "$1"
}

forget_service() {
	ctr -n "${namespace:-services.linuxkit}" task delete --force "$1"
	ctr -n "${namespace:-services.linuxkit}" container delete "$1"
}
