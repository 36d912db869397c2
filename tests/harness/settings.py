# SPDX-License-Identifier: Apache-2.0
"""What tests/run.sh hands over. A missing thing is a failure with words, never a silent skip."""
import os


class Missing(AssertionError):
    """Something that the tests need was not handed over."""


def need(name, what):
    """The value of an environment variable that tests/run.sh sets."""
    value = os.environ.get(name)
    if not value:
        raise Missing(f"{name} is not set: {what} (tests/run.sh sets it)")
    return value


def kipgate_bin():
    """The program under test."""
    return need("KIPGATE_BIN", "path of the kipgate program")


def sanitized_bin():
    """The same program with sanitizers, where it was built; else the plain one."""
    return os.environ.get("KIPGATE_BIN_SAN") or kipgate_bin()


def docker_host():
    """Address of the private engine."""
    return need("DOCKER_HOST", "address of the private engine")


def echo_image():
    """The echo worker's image, present on the private engine."""
    return need("KIPGATE_ECHO_IMAGE", "name of the echo worker's image")


def image_worker():
    """The image worker's image, present on the private engine."""
    return need("KIPGATE_IMAGE_WORKER", "name of the image worker's image")


def grpc_worker():
    """The gRPC worker's image, present on the private engine."""
    return need("KIPGATE_GRPC_WORKER", "name of the gRPC worker's image")


def kipgate_image():
    """Kipgate's own image, built by the repository's Dockerfile."""
    return need("KIPGATE_IMAGE", "name of Kipgate's own image")


def clean_environment(**more):
    """The environment without our own KIPGATE_ variables: the program would take them for options
    (KIPGATE_IMAGE is its --image)."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith("KIPGATE_")}
    return {**plain, "UBSAN_OPTIONS": "print_stacktrace=1", **more}
