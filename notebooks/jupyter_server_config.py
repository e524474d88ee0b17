"""JupyterLab as `make notebook` starts it: for this machine alone, with a token that it makes at each start."""


def without_outputs(model: dict, **_: object) -> None:
    """Save a notebook without its outputs: they show data of the stores, and a commit would include them."""
    if model["type"] != "notebook":
        return
    for cell in model["content"]["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None


c = get_config()  # noqa: F821 - Jupyter runs this file
c.ContentsManager.pre_save_hook = without_outputs
c.ServerApp.ip = "127.0.0.1"
# Kernels listen on sockets in a private folder: from a port, any user of the machine could read the output of cells.
c.KernelManager.transport = "ipc"
c.ServerApp.port_retries = 0  # `make notebook` has checked that the port is free
c.ServerApp.open_browser = False
c.ServerApp.allow_root = True  # the rest of the stack may run as root too
c.ServerApp.answer_yes = True  # Ctrl-C ends it, without asking
# No telemetry, no update checks, no downloads.
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"
