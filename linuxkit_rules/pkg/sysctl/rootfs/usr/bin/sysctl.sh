#!/bin/sh
# Writes each `key = value` of /etc/sysctl.d/*.conf to /proc/sys. A key that this kernel does not have is told
# and passed over.
set -u
for file in /etc/sysctl.d/*.conf; do
	[ -e "$file" ] || continue
	while IFS='=' read -r key value; do
		key=${key%"${key##*[! 	]}"}
		value=${value#"${value%%[! 	]*}"}
		case $key in '' | [\#\;]*) continue ;; esac
		path=/proc/sys/${key//.//}
		if [ -w "$path" ]; then
			echo "$value" >"$path" || echo "$file: $key = $value was refused" >&2
		else
			echo "$file: this kernel has no $key" >&2
		fi
	done <"$file"
done
