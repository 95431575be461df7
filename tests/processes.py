"""Work on several real processes (gloo)."""

import os
import socket
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def _work(rank, port, ranks, work, folder):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=ranks, timeout=timedelta(seconds=30))
    torch.save(work(rank), folder / f"{rank}.pt")
    dist.barrier()
    # Taken down in order, DDP waits, with the GIL, for a thread of gloo's that now and then waits
    # for the GIL: forever.
    os._exit(0)


def results_on_processes(work, folder, ranks=2):
    """What `work` of the rank returns on each of several processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # torch is imported once, by the server, and not again by every process
    mp.get_context("forkserver").set_forkserver_preload(["torch"])
    arguments = (port, ranks, work, folder)
    mp.start_processes(_work, args=arguments, nprocs=ranks, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt") for rank in range(ranks)]
