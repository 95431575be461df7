"""Work on several real processes (gloo), or on one that is killed."""

import importlib
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


def _context(preload):
    """Processes that are forked from a server, which imports once what takes long."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload([preload])
    return context


def as_torchrun(rank, ranks=2):
    """Set what `torchrun` sets, by which Lightning sees that the processes are there already."""
    elastic = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=ranks, LOCAL_WORLD_SIZE=ranks)
    os.environ |= {key: str(value) for key, value in elastic.items()}
    os.environ |= {"GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test"}


def results_on_processes(work, folder, ranks=2, preload="torch"):
    """What `work` of the rank returns on each of several processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    _context(preload)
    arguments = (port, ranks, work, folder)
    mp.start_processes(_work, args=arguments, nprocs=ranks, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt") for rank in range(ranks)]


def _on_one_thread(work, *arguments):
    importlib.import_module("jepa_utils.training.fit").THREADS = 1
    work(*arguments)


def exit_code(work, *arguments):
    """How a process that does this work ends: 0, or minus the signal that killed it."""
    process = _context("lightning").Process(target=_on_one_thread, args=(work, *arguments))
    process.start()
    process.join(120)
    if process.is_alive():
        process.kill()
        raise TimeoutError("the process did not end")
    return process.exitcode
