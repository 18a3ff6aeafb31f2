# Removes a container through the API of its engine. A keeper runs `end` after its owner has ended,
# in any way. The constants ADDRESS, NAME, PENDING and GRACE come before this text.
import os
import shutil
import socket
import subprocess
import time

if isinstance(ADDRESS, dict) and "host" in ADDRESS:
    import ssl  # fails now rather than at the end

LIMIT = 600  # seconds for an engine that is down or restarting
LIMIT_OWNED = 8  # the same while the owner waits
CREATION = 15  # seconds in which a container may appear whose creation nobody has seen


def connect(patience):
    if isinstance(ADDRESS, str):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(patience)
        connection.connect(ADDRESS)
        return connection
    if isinstance(ADDRESS, list):
        return socket.create_connection(tuple(ADDRESS), patience)
    if "ssh" in ADDRESS:
        connection, other = socket.socketpair()
        environment = dict(os.environ)
        if ADDRESS["agent"]:
            environment["SSH_AUTH_SOCK"] = ADDRESS["agent"]
        # Ends when the connection is closed.
        with other:
            subprocess.Popen(
                ["ssh"] + ADDRESS["ssh"],
                stdin=other,
                stdout=other,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        connection.settimeout(patience)
        return connection
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    below = ADDRESS["certificates"] + "/"
    context.load_verify_locations(below + "ca.pem")
    if os.path.exists(below + "cert.pem"):
        context.load_cert_chain(below + "cert.pem", below + "key.pem")
    plain = socket.create_connection((ADDRESS["host"], ADDRESS["port"]), patience)
    return context.wrap_socket(plain, server_hostname=ADDRESS["host"])


def request(method, path, patience):
    """Returns the status of the engine's response."""
    with connect(patience) as connection:
        line = method + " " + path + " HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n"
        connection.sendall((line + "Content-Length: 0\r\n\r\n").encode())
        response = b""
        while b"\r\n" not in response:
            part = connection.recv(4096)
            if not part:
                raise OSError("no response")
            response += part
    return int(response.split()[1])


def end(orphaned):
    begun = time.monotonic()
    if orphaned and isinstance(ADDRESS, dict) and ADDRESS.get("place"):
        # The sockets of the owner's processes of ssh, which end with it.
        shutil.rmtree(ADDRESS["place"], ignore_errors=True)
    if orphaned and GRACE and not PENDING:
        try:
            request("POST", "/containers/%s/stop?t=%d" % (NAME, GRACE), GRACE + 30)
        except (OSError, ValueError, IndexError):
            pass
    pause = 0.02
    while True:
        try:
            status = request("DELETE", "/containers/%s?force=true&v=true" % NAME, 60)
        except (OSError, ValueError, IndexError):
            status = 0
        passed = time.monotonic() - begun
        if status == 404 and not (PENDING and passed < CREATION):
            return
        if status in (200, 204) or passed > (LIMIT if orphaned else LIMIT_OWNED):
            return
        time.sleep(pause)
        pause = min(2 * pause, 1)
