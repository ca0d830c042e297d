"""Which process of how many this is: as `config.hosts`, the surroundings or JAX say."""

import os
import socket
from collections.abc import Mapping
from typing import Any

import jax

from yolojax.config.device import HOSTS_OFF, parsed_hosts
from yolojax.devices.meeting import Seat


def seat_of(text: str | None, seconds: float) -> Seat | None:
    """Returns which process of how many this is, None if it is the only one.

    Args:
        text: config.hosts; None: as the surroundings say.
        seconds: that a cluster may take to answer.

    Raises:
        ValueError: what the surroundings say is no such place, or they do not answer.
    """
    if text is not None:
        found = parsed_hosts(text)
        return None if found is None else Seat(*found)
    return _told_plainly(os.environ) or _told_by_cluster(seconds)


def _told_plainly(environ: Mapping[str, str]) -> Seat | None:
    """Returns what variables say that Kubeflow and others set for JAX."""
    for prefix in ("JAX_", ""):
        address = environ.get(f"{prefix}COORDINATOR_ADDRESS")
        count = environ.get(f"{prefix}NUM_PROCESSES")
        number = environ.get(f"{prefix}PROCESS_ID")
        if not (address and count and number):
            continue
        if ":" not in address:
            address += f":{environ.get(f'{prefix}COORDINATOR_PORT') or 1234}"
        found = parsed_hosts(f"{address},{count},{number}")
        assert found is not None
        return Seat(*found)
    return None


def _told_by_cluster(seconds: float) -> Seat | None:
    """Returns what SLURM, Open MPI, a TPU pod or Kubernetes say, as JAX reads them."""
    environ = os.environ
    tasks = environ.get("SLURM_NTASKS"), environ.get("OMPI_COMM_WORLD_SIZE")
    indexed = "KUBERNETES_SERVICE_HOST" in environ and "JOB_COMPLETION_INDEX" in environ
    from jax._src import cloud_tpu_init, clusters

    on_tpu = cloud_tpu_init.running_in_cloud_tpu_vm
    if not (any(int(n or 1) > 1 for n in tasks) or indexed or on_tpu):
        return None  # JAX would ask services over the network
    detect = clusters.ClusterEnv.auto_detect_unset_distributed_params
    try:
        address, number, own, local = detect(None, None, None, None, None, int(seconds))
    except Exception as error:  # whatever a service of the cluster answers
        raise ValueError(
            f"the cluster that this process runs in cannot be asked for the others"
            f" ({' '.join(str(error).split())}). Give hosts=ADDRESS:PORT,N,I, or"
            " hosts=off for one process."
        ) from error
    if address is None or number is None or own is None:
        return None
    found = parsed_hosts(f"{address},{number},{own}")
    assert found is not None
    return Seat(*found, local_devices=None if local is None else tuple(local))


def seat_in_jax(text: str | None, seconds: float, meeting: int) -> Seat | None:
    """Returns which process this is where JAX has been joined already.

    They meet at another port of the same machine, which process 0 tells by way of JAX.

    Args:
        text: config.hosts.
        seconds: that process 0 may take to come.
        meeting: its number, the same in all processes.

    Raises:
        ValueError: process 0 has not come, or `config.hosts` is given.
    """
    if text == HOSTS_OFF:
        return None
    if text is not None:
        raise ValueError(
            f"config.hosts = {text!r}: jax.distributed.initialize has been called in"
            " this process, which says already where the others are. Remove the"
            " setting."
        )
    from jax._src import distributed

    state = distributed.global_state
    if state.num_processes == 1:
        return None
    address = str(state.coordinator_address).rpartition(":")[0].strip("[]")
    client, key = store(), f"yolojax/port/{meeting}"
    if state.process_id == 0:
        with socket.create_server(("", 0)) as server:
            port = server.getsockname()[1]
        client.key_value_set(key, str(port))
    else:
        try:
            port = int(client.blocking_key_value_get(key, int(1000 * seconds)))
        except jax.errors.JaxRuntimeError as error:
            raise ValueError(
                f"process 0 of {state.num_processes}, which jax.distributed knows, did"
                f" not come within {seconds:g} s (hosts_timeout). Start the same"
                " command in all of them."
            ) from error
    return Seat(address, port, state.num_processes, state.process_id)


def store() -> Any:
    """Returns the client of the service by which JAX's processes find each other."""
    from jax._src import distributed

    return distributed.global_state.client
