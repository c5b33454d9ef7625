#!/bin/sh
# poweroff.sh [SECONDS]: asks PID 1, which stops the services first.
sleep "${1:-3}"
exec poweroff
