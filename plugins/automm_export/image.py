"""The container image: a Dockerfile with everything that it copies."""

from __future__ import annotations

from pathlib import Path

from automm_export.contents import Contents, write

PORT = 8080
USER = 10001
READY = "/v2/health/ready"
LIVE = "/v2/health/live"

DOCKERFILE = """\
# {name}: a server for the automm package {digest}
FROM {base} AS install
COPY requirements.txt /tmp/requirements.txt
COPY wheels/ /tmp/wheels/
RUN python -m venv /opt/automm && \\
    /opt/automm/bin/pip install --no-cache-dir --find-links /tmp/wheels -r /tmp/requirements.txt

FROM {base}
COPY --from=install /opt/automm /opt/automm
ENV PATH=/opt/automm/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
{package}USER {user}:{user}
WORKDIR /tmp
EXPOSE {port}
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \\
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:{port}{ready}', timeout=2)"]
ENTRYPOINT ["automm", "serve"]
CMD ["{model}", "--host", "0.0.0.0", "--port", "{port}"]
"""
PACKAGE = """\
COPY package/ {model}/
# The package's own examples must come out as they did where it was made.
RUN ["automm", "package", "verify", "{model}"]
"""


def write_image(folder: Path, contents: Contents, base: str, model: str, *, inside: bool) -> None:
    """Writes what `docker build` needs.

    Args:
        folder: The build context.
        contents: The package.
        base: The image to start from; empty: the slim Python image of the version the package was made with.
        model: Where the package lies in the container.
        inside: Whether the image holds the package.
    """
    if inside:
        contents.copy(folder / "package")
    text = DOCKERFILE.format(
        name=contents.label,
        digest=contents.digest,
        base=base or f"python:{contents.python}-slim",
        package=PACKAGE.format(model=model) if inside else "",
        user=USER,
        port=PORT,
        ready=READY,
        model=model,
    )
    write(folder / "Dockerfile", text)
    # All but these stay out of the build: what lies around may be secret.
    write(folder / ".dockerignore", "*\n!requirements.txt\n!wheels\n" + ("!package\n" if inside else ""))
    write(folder / "requirements.txt", contents.requirements("serve"))
    write(folder / "wheels" / "README.txt", "Wheels here are installed from, before any index is asked.\n")


def tag(contents: Contents, image: str) -> str:
    """The image's name; without one given it is the package's, with its digest as tag: a new package, a new image."""
    return image or f"{contents.label}:{contents.digest[:12]}"
