# A JSON reader (RFC 8259) for busybox awk: parse(text) fills
#   leaf[path]  scalars, as text; null as ""       count[path]  lengths of arrays
# where path joins keys and indexes with dots. echo_text gets the document again, token by token, with the
# values of replace[path] put in. parse() gives "" or what is wrong.

function parse(text) {
	split("", leaf)
	split("", count)
	rest = text
	echo_text = fault = ""
	value("")
	if (fault == "" && take() != "")
		fault = "text after the end of the document"
	return fault
}

# The next token, "" at the end. Strings keep their quotes here.
function take(    token) {
	if (!match(rest, /^[ \t\r\n]*("([^"\\]|\\.)*"|[][{}:,]|[^][{}:," \t\r\n]+)/)) {
		if (rest !~ /^[ \t\r\n]*$/)
			fail("unterminated string")
		return ""
	}
	token = substr(rest, 1, RLENGTH)
	rest = substr(rest, RLENGTH + 1)
	sub(/^[ \t\r\n]+/, "", token)
	return token
}

function fail(message) {
	if (fault == "")
		fault = message
	rest = ""
}

function value(path,    token) {
	token = take()
	if (token == "{") {
		echo_text = echo_text token
		object(path)
	} else if (token == "[") {
		echo_text = echo_text token
		array(path)
	} else if (token ~ /^"/ || token ~ /^(true|false|null|-?[0-9][-+.0-9eE]*)$/) {
		leaf[path] = token ~ /^"/ ? unescape(substr(token, 2, length(token) - 2)) : token == "null" ? "" : token
		echo_text = echo_text ((path in replace) ? "\"" replace[path] "\"" : token)
	} else
		fail("a value was expected, not '" token "'")
}

function object(path,    token, key) {
	for (token = take(); token != "}"; token = take()) {
		if (key != "" && token == ",") {
			echo_text = echo_text token
			token = take()
		} else if (key != "")
			return fail("',' or '}' was expected, not '" token "'")
		if (token !~ /^"/)
			return fail("a key was expected, not '" token "'")
		key = token
		if (take() != ":")
			return fail("':' was expected after " key)
		echo_text = echo_text key ":"
		value((path == "" ? "" : path ".") unescape(substr(key, 2, length(key) - 2)))
		if (fault != "")
			return
	}
	echo_text = echo_text "}"
}

function array(path,    token, n) {
	count[path] = n = 0
	if (rest ~ /^[ \t\r\n]*]/)
		token = take()
	while (token != "]") {
		value(path "." n)
		count[path] = ++n
		token = take()
		if (token == ",")
			echo_text = echo_text token
		else if (token != "]")
			return fail("',' or ']' was expected, not '" token "'")
	}
	echo_text = echo_text "]"
}

function unescape(text,    out, at, char) {
	while ((at = index(text, "\\")) > 0) {
		out = out substr(text, 1, at - 1)
		char = substr(text, at + 1, 1)
		if (char == "u") {
			out = out code_point(substr(text, at + 2, 4))
			text = substr(text, at + 6)
			continue
		}
		if (char == "n") char = "\n"
		else if (char == "t") char = "\t"
		else if (char == "r") char = "\r"
		else if (char == "b") char = "\b"
		else if (char == "f") char = "\f"
		out = out char
		text = substr(text, at + 2)
	}
	return out text
}

# Four hexadecimal digits as UTF-8. Surrogate pairs do not occur in paths and names; they are left as they are.
function code_point(digits,    n, i) {
	if (digits !~ /^[0-9a-fA-F][0-9a-fA-F][0-9a-fA-F][0-9a-fA-F]$/) {
		fail("\\u needs four hexadecimal digits")
		return ""
	}
	for (i = 1; i <= 4; i++)
		n = n * 16 + index("0123456789abcdef", tolower(substr(digits, i, 1))) - 1
	if (n < 128)
		return sprintf("%c", n)
	if (n < 2048)
		return sprintf("%c%c", 192 + int(n / 64), 128 + n % 64)
	if (n >= 55296 && n < 57344)
		return "\\u" digits
	return sprintf("%c%c%c", 224 + int(n / 4096), 128 + int(n / 64) % 64, 128 + n % 64)
}
