#!/usr/bin/env bash
# One run over two machines of eight GPUs, by SLURM: sbatch experiments/launch/slurm.sh
# Started again by itself after a preemption, a lost machine or the end of its time.
# EDIT: partition, time, what a node has.
#SBATCH --job-name=yolojax
#SBATCH --partition=gpu
#SBATCH --time=12:00:00
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
set -uo pipefail

# EDIT: the environment, the data, and a folder on a disk that all nodes see.
# shellcheck source=/dev/null
source "$HOME/yolojax/.venv/bin/activate"
DATA=/shared/coco/data.yaml
RUN=/shared/runs/coco-n

# SLURM tells each task who the others are. SIGTERM, two minutes before the end,
# reaches the tasks: they save the same step, and end with status 0.
srun --kill-on-bad-exit=0 \
  yolojax train yolo11n "data=$DATA" batch=1024 epochs=300 --workdir "$RUN"
status=$?

# The run's last picture is drawn when it is complete. Status 75: a machine was lost.
if { [ "$status" -eq 0 ] && [ ! -e "$RUN/results.png" ]; } || [ "$status" -eq 75 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
