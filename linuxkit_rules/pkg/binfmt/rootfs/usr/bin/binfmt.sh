#!/bin/sh
# Registers each line of /etc/binfmt.d/*.conf (kernel: admin-guide/binfmt-misc). Flag F makes the kernel open the
# interpreter now, so that it works in every container afterwards.
set -eu
misc=/proc/sys/fs/binfmt_misc
[ -e $misc/register ] || /usr/bin/mount -t binfmt_misc binfmt_misc $misc
failed=0
for file in /etc/binfmt.d/*.conf; do
	[ -e "$file" ] || continue
	while IFS= read -r line; do
		case $line in '' | [\#\;]*) continue ;; esac
		name=${line#?}
		name=${name%%"${line%"$name"}"*}
		# A name can be registered once: -1 takes it back.
		[ ! -e "$misc/$name" ] || echo -1 >"$misc/$name"
		printf '%s' "$line" >$misc/register || {
			echo "$file: $name was refused" >&2
			failed=1
		}
	done <"$file"
done
exit $failed
