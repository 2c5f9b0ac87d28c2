#!/bin/sh
# Trains on all hosts of a TPU slice. Run it on your own machine, with gcloud:
#
#   TPU=my-slice ZONE=us-central2-b WORKDIR=gs://my-bucket/runs/coco sh examples/cluster/tpu_pod.sh
#
# Every host needs this project in ~/lga_jax with `pip install -e '.[tpu,gs]'` in ~/lga_jax/.venv, and COCO in
# ~/lga_jax/data/coco: --worker=all runs those commands on all hosts as well. The hosts share no disk, so the workdir is
# in a bucket. Further arguments of this script go to train.py. After an interruption run the same command again.
set -eu
: "${TPU:?the name of the TPU slice}" "${ZONE:?its zone}" "${WORKDIR:?gs://BUCKET/FOLDER}"
exec gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="cd lga_jax && .venv/bin/python \
train.py --config coco_tpu --workdir $WORKDIR --coordinator_address auto $*"
