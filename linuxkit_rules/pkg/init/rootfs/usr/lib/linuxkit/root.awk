# Writes a config.json (read with json.awk) with root.path replaced by the variable rootfs.
{ text = text $0 "\n" }
END {
	gsub(/["\\]/, "\\\\&", rootfs)
	replace["root.path"] = rootfs
	error = parse(text)
	if (error != "") {
		print FILENAME ": " error >"/dev/stderr"
		exit 1
	}
	print echo_text
}
