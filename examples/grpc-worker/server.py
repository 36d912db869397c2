# SPDX-License-Identifier: Apache-2.0
"""A gRPC server of every kind of call, without generated code: messages are bytes. Its methods are
/example.Bytes/NAME; what each does is said beside it."""
import concurrent.futures
import os
import signal
import threading
import time

import grpc

LARGEST = 64 * 1024 * 1024


def echo(request, context):
    """Unary: the message as it came; the metadata `x-echo` comes back ahead of it and behind it."""
    said = dict(context.invocation_metadata()).get("x-echo", "")
    context.send_initial_metadata((("x-echo", said),))
    context.set_trailing_metadata((("x-echo-last", said), ("x-bytes-bin", said.encode())))
    return request


def large(request, context):
    """Unary: as many bytes as the message says in decimal."""
    return b"x" * int(request)


def fail(request, context):
    """Unary: no message but a status, whose words are those of the request."""
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, request.decode())


def count(request, context):
    """Server streaming: "COUNT [PAUSE_MS [BYTES]]" gives 0, 1, 2, ..., filled up with spaces."""
    most, pause_ms, size = (request.decode() + " 0 0").split()[:3]
    for number in range(int(most)):
        if not context.is_active():
            return
        yield str(number).encode().ljust(int(size))
        time.sleep(int(pause_ms) / 1000)
    context.set_trailing_metadata((("x-count", most),))


def break_off(request, context):
    """Server streaming: three messages, and then an error in the trailers."""
    for number in range(3):
        yield str(number).encode()
    context.abort(grpc.StatusCode.DATA_LOSS, "three is enough")


def total(requests, context):
    """Client streaming: how many messages and bytes came."""
    messages = size = 0
    for request in requests:
        messages += 1
        size += len(request)
    return f"{messages} {size}".encode()


def early(requests, context):
    """Client streaming: answers behind the first message, whatever follows."""
    return b"enough: " + next(requests)


def chat(requests, context):
    """Both ways at once: each message comes back as it came, in capitals."""
    for request in requests:
        yield request.upper()


def slow(request, context):
    """Unary: sleeps as many milliseconds as the message says; tells in the log if given up."""
    given_up = threading.Event()
    context.add_callback(given_up.set)
    if given_up.wait(int(request) / 1000):
        print("given up", flush=True)
    return b"slept"


HANDLERS = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Large": grpc.unary_unary_rpc_method_handler(large),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "BreakOff": grpc.unary_stream_rpc_method_handler(break_off),
    "Total": grpc.stream_unary_rpc_method_handler(total),
    "Early": grpc.stream_unary_rpc_method_handler(early),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
}


def main():
    """Serves until it is told to end; open calls have a second to finish."""
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(max_workers=64),
        handlers=[grpc.method_handlers_generic_handler("example.Bytes", HANDLERS)],
        options=[
            ("grpc.max_receive_message_length", LARGEST),
            ("grpc.max_send_message_length", LARGEST),
        ],
    )
    if server.add_insecure_port(f"0.0.0.0:{os.environ.get('PORT', '50051')}") == 0:
        raise SystemExit("the port cannot be listened on")
    server.start()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    server.stop(1).wait()


if __name__ == "__main__":
    main()
