# Reads runtime.json files (with json.awk) and writes two shell functions, so that one process serves all
# containers:  prepare DIRECTORY       before the container is created: mounts, directories, cgroups
#              attach DIRECTORY PID    between its creation and its start: interfaces, bound namespaces
# where prepare sets the variables namespace and attached ("yes" if attach has something to do).
# Steps are calls of functions in container.sh; every word is quoted.
# Each config.json is copied to KIND.NAME.json in the directory that -v state= names, under the version 1.0.2:
# Debian's crun 1.8 refuses later ones by their number, though nothing in them is unknown to it.

BEGIN {
	# A pattern that matched nothing stands for itself.
	for (i = 1; i < ARGC; i++)
		if (ARGV[i] ~ /\*/)
			ARGV[i] = ""
	if (ARGV[1] == "")
		ARGV[1] = "/dev/null"
}
FNR == 1 { start() }
{ text = text $0 "\n" }
END {
	finish()
	print "prepare() {\nnamespace= attached=\ncase $1 in\n" prepare_cases "esac\n}"
	print "attach() {\ncase $1 in\n" attach_cases "esac\n}"
}

function start() {
	finish()
	text = ""
	directory = kind = FILENAME
	sub(/\/[^\/]*$/, "", directory)
	sub(/.*\//, "", kind)
}

function finish() {
	if (kind == "config.json")
		copy_config()
	else if (kind != "")
		runtime()
}

function copy_config(    words, n, file) {
	n = split(directory, words, "/")
	file = state "/" words[n - 1] "." words[n] ".json"
	sub(/"ociVersion"[ \t\r\n]*:[ \t\r\n]*"[^"]*"/, "\"ociVersion\": \"1.0.2\"", text)
	printf "%s", text >file
	close(file)
}

function runtime(    error, steps, links) {
	error = parse(text)
	if (error != "") {
		prepare_cases = prepare_cases quote(directory) ") warn " quote(directory "/runtime.json: " error) "; return 1 ;;\n"
		return
	}
	steps = mounts() directories() cgroups()
	links = interfaces() namespaces()
	prepare_cases = prepare_cases quote(directory) ")\n" \
		(leaf["namespace"] == "" ? "" : "namespace=" quote(leaf["namespace"]) "\n") \
		(links == "" ? "" : "attached=yes\n") steps ";;\n"
	attach_cases = attach_cases quote(directory) ")\n" links ";;\n"
}

function quote(word) {
	gsub(/'/, "'\\''", word)
	return "'" word "'"
}

# Relative paths count from the container's root file system.
function absolute(path) {
	return path ~ /^\// ? path : directory "/rootfs/" path
}

function mounts(    i, j, key, option, options, made, out) {
	for (i = 0; i < count["mounts"]; i++) {
		key = "mounts." i "."
		options = ""
		made = quote(absolute(leaf[key "destination"]))
		for (j = 0; j < count[key "options"]; j++) {
			option = leaf[key "options." j]
			options = options (options == "" ? "" : ",") option
			if (option ~ /^(upperdir|workdir)=/)
				made = made " " quote(substr(option, 9 + (option ~ /^u/)))
		}
		# What LinuxKit writes after each tmpfs of its own: the kernel takes it as a remount of nothing.
		if (options == "remount,private")
			continue
		out = out "make_directories " made " || return 1\n"
		out = out "mount_one " quote(leaf[key "type"]) " " quote(leaf[key "source"]) " " \
			quote(absolute(leaf[key "destination"])) " " quote(options) " || return 1\n"
	}
	return out
}

function directories(    i, made) {
	for (i = 0; i < count["mkdir"]; i++)
		made = made " " quote(absolute(leaf["mkdir." i]))
	return made == "" ? "" : "make_directories" made " || return 1\n"
}

function cgroups(    i, made) {
	for (i = 0; i < count["cgroups"]; i++)
		made = made " " quote("/sys/fs/cgroup/" leaf["cgroups." i])
	return made == "" ? "" : "make_directories" made " || return 1\n"
}

function interfaces(    i, key, out) {
	for (i = 0; i < count["interfaces"]; i++) {
		key = "interfaces." i "."
		out = out "add_interface " quote(leaf[key "name"]) " " quote(leaf[key "add"]) " " quote(leaf[key "peer"]) \
			" " quote(leaf[key "createInRoot"]) " \"$2\" || return 1\n"
	}
	return out
}

function namespaces(    i, n, kind, out) {
	n = split("cgroup ipc mnt net pid user uts", kind, " ")
	for (i = 1; i <= n; i++)
		if (leaf["bindNS." kind[i]] != "")
			out = out "bind_namespace " kind[i] " " quote(leaf["bindNS." kind[i]]) " \"$2\" || return 1\n"
	return out
}
