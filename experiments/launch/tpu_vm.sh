#!/usr/bin/env bash
# One run on all machines of a Cloud TPU slice, from your own terminal.
# On a TPU the machines find each other; the command is the same on each.
set -euo pipefail

# EDIT: the slice, the data, and a folder on a disk that all machines see.
TPU=yolojax
ZONE=us-west4-a
DATA=/mnt/shared/coco/data.yaml
RUN=/mnt/shared/runs/coco-n

gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="
  source ~/yolojax/.venv/bin/activate &&
  yolojax train yolo11n data=$DATA batch=1024 epochs=300 preemption_notices=true \
    --workdir $RUN"
