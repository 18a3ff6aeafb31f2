# Creates a container through the API of its engine, and removes it. A keeper runs `create` for its
# owner, and `end` after the owner has ended, in any way. As the keeper gets the engine's response
# even if the owner has ended in the meantime, it knows whether there is a container to remove.
# The constants ADDRESS, NAME and GRACE come before this text.
import json
import os
import shutil
import socket
import subprocess
import time

if isinstance(ADDRESS, dict) and "host" in ADDRESS:
    import ssl  # fails now rather than at the end

LIMIT = 600  # seconds for an engine that is slow, down or restarting
LOST = 60  # seconds in which a container may appear if the connection to the engine was lost

# The container to remove, by name or id, and whether it is known to exist.
container, exists = None, False


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


def request(method, path, body, patience):
    """Returns the status of the engine's response, and its text."""
    # With HTTP/1.0, the response ends with the connection.
    head = "%s %s HTTP/1.0\r\nHost: engine\r\nContent-Type: application/json\r\n" % (method, path)
    body = body.encode()
    with connect(patience) as connection:
        connection.sendall((head + "Content-Length: %d\r\n\r\n" % len(body)).encode() + body)
        response = b""
        while True:
            part = connection.recv(65536)
            if not part:
                break
            response += part
    head, blank, text = response.partition(b"\r\n\r\n")
    if not blank:
        raise OSError("the engine closed the connection")
    return int(head.split()[1]), text.decode(errors="replace")


def create(path, body):
    """Creates the container. Returns the engine's response for the owner, as one line of JSON."""
    global container, exists
    container = NAME
    try:
        status, text = request("POST", path, body, LIMIT)
        response = json.loads(text)
        container = response["Id"] if status == 201 else None
        exists = status == 201
    except (OSError, ValueError, IndexError, KeyError, TypeError) as error:
        return json.dumps({"lost": str(error)})
    return json.dumps({"status": status, "response": response})


def end(orphaned):
    begun = time.monotonic()
    if orphaned and isinstance(ADDRESS, dict) and ADDRESS.get("place"):
        # The sockets of the owner's processes of ssh, which end with it.
        shutil.rmtree(ADDRESS["place"], ignore_errors=True)
    if container is None:
        return
    if orphaned and GRACE and exists:
        try:
            request("POST", "/containers/%s/stop?t=%d" % (container, GRACE), "", GRACE + 30)
        except (OSError, ValueError, IndexError):
            pass
    pause = 0.02
    while True:
        try:
            path = "/containers/%s?force=true&v=true" % container
            status, _ = request("DELETE", path, "", 60)
        except (OSError, ValueError, IndexError):
            status = 0
        passed = time.monotonic() - begun
        if status in (200, 204) or status == 404 and (exists or passed > LOST) or passed > LIMIT:
            return
        time.sleep(pause)
        pause = min(2 * pause, 1)
