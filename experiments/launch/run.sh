#!/bin/sh
# What a container does: one process of a run. Its arguments are those of `yolojax`.
# RUN: the run's folder, on a disk that all processes see.
#
# SIGTERM ends a run with status 0 once its step is saved. A scheduler of containers
# takes 0 for "done", so a run that is not complete ends with 75 here: start me again.
set -u
asked=0
child=
trap 'asked=1; [ -z "$child" ] || kill -TERM "$child"' TERM
yolojax "$@" --workdir "$RUN" &
child=$!
if [ "$asked" -eq 1 ]; then  # in between
  asked=0
  kill -TERM "$child"
fi
wait "$child"
status=$?
while [ "$asked" -eq 1 ]; do  # the signal has ended the wait, not the run
  asked=0
  wait "$child"
  again=$?
  [ "$again" -eq 127 ] || status=$again  # 127: it had ended before the signal came
done
if [ "$status" -eq 0 ] && [ ! -e "$RUN/results.png" ]; then
  status=75
fi
exit "$status"
