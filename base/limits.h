/* SPDX-License-Identifier: Apache-2.0 */
/* Every fixed limit of Kipgate, with its unit in its name.
 * The difficulty is that a limit is a promise: each is tested at n-1, n and n+1. */
#ifndef KG_BASE_LIMITS_H
#define KG_BASE_LIMITS_H

/* What a client or a worker may send. */
#define KG_MAX_HEAD_BYTES (64 * 1024)
#define KG_MAX_FIELDS 100
#define KG_MAX_TARGET_BYTES (8 * 1024)
#define KG_MAX_CHUNK_EXT_BYTES 4096  /* all chunk extensions of one message */
#define KG_MAX_INTERIM_RESPONSES 8   /* 1xx before a final response */
#define KG_MAX_UPSTREAM_IDLE 64      /* idle kept connections per worker and front */
#define KG_MAX_UPSTREAM_SURPLUS 1024 /* the same, for so long: */
#define KG_UPSTREAM_SURPLUS_MS 2000

/* HTTP/2. A peer may send so much, in so long a time, that moves no stream. */
#define KG_MAX_STREAMS 100 /* of one connection of a client, at a time */
#define KG_SESSION_WINDOW_BYTES (1024 * 1024)
#define KG_MAX_BLOCK_FRAMES 32   /* a header block: HEADERS and its CONTINUATIONs */
#define KG_FLOOD_WINDOW_MS 10000 /* what follows is counted so long */
#define KG_MAX_GLITCHES 1000     /* PING, SETTINGS, empty DATA and the like */
#define KG_MAX_RESETS 100        /* streams that the client resets, or makes us reset */
#define KG_MIN_RESETS 20         /* from here on not half of its streams before an answer */

/* How long a client may take. */
#define KG_HEAD_TIMEOUT_MS 10000       /* from a head's first byte to its end */
#define KG_FIRST_BYTE_TIMEOUT_MS 10000 /* a new connection without a byte */
#define KG_DRAIN_FIRST_BYTE_MS 1000    /* the same, at a drain; by HTTP/2: to hear of it */
#define KG_KEEPALIVE_TIMEOUT_MS 60000  /* between two requests */
#define KG_BODY_GRACE_MS 10000         /* before the body rate is asked for */
#define KG_BODY_MIN_BYTES_PER_S 500
#define KG_WRITE_STALL_MS 30000 /* a peer that takes no byte */
#define KG_LINGER_CLOSE_MS 1000 /* reading on after a refusal, before closing */
#define KG_LINGER_CLOSE_BYTES (64 * 1024)

/* How much memory moves with a body. */
#define KG_READ_BUFFER_BYTES (64 * 1024) /* one per process */
#define KG_REPLAY_BODY_BYTES (16 * 1024) /* of a body kept for a safe second try */
#define KG_LOCAL_BODY_BYTES (256 * 1024) /* request body of the admin API */
#define KG_MAX_ASKERS 1024 /* of the admin API: who waits for a wake, or follows events */

/* Descriptors: kept free for engine, channel and workers when client connections are counted. */
#define KG_RESERVED_DESCRIPTORS 64
#define KG_MAX_WAITING_PER_FRONT 10000 /* requests held in one front; beyond: overloaded */

/* TLS. */
#define KG_MAX_TLS_FILE_BYTES (512 * 1024) /* a certificate with its chain, a key, authorities */
#define KG_MAX_HANDSHAKES 4096 /* begun and not done, in one front; beyond: the next is closed */

/* Configuration. */
#define KG_MAX_NAME_BYTES 63 /* of a service */
#define KG_MAX_SERVICES 8192
#define KG_MAX_ROUTES 16384
#define KG_MAX_ROUTE_BYTES 512 /* host and prefix of one route */
#define KG_MAX_QUIET 8         /* monitor patterns of one service */
#define KG_MAX_PATTERN_BYTES 127
#define KG_MAX_HEALTH_PATH_BYTES 127
#define KG_MAX_LISTEN 16
#define KG_MAX_CERTIFICATES 64
#define KG_MAX_FRONTS 64
#define KG_MAX_CONFIG_BYTES (16 * 1024 * 1024)
#define KG_MAX_SOCKET_PATH_BYTES 107 /* sun_path less its NUL */

/* Between control and its fronts. */
#define KG_MAX_MESSAGE_BYTES 2048
#define KG_CONTROL_AWAY_MS 30000    /* a front without control waits so long for another one */
#define KG_FRONT_READY_MS 10000     /* from a front's start to its word that it is ready */
#define KG_MAX_CHANNEL_QUEUE 131072 /* messages waiting for a peer that does not read */

/* The engine. */
#define KG_ENGINE_MAX_ANSWER_BYTES (16 * 1024 * 1024)
#define KG_ENGINE_MAX_JSON_DEPTH 64
#define KG_ENGINE_MAX_CONNECTIONS 8
#define KG_ENGINE_CALL_TIMEOUT_MS 10000
#define KG_ENGINE_START_TIMEOUT_MS 30000
#define KG_ENGINE_RECONCILE_MS 30000 /* full list against what we know */
#define KG_ENGINE_API_MIN 40         /* minor of the oldest API version we speak: 1.40 */
#define KG_ENGINE_API_MAX 47         /* and of the newest */

/* Network namespaces parked for workers to join. A burst of starts is provided for so long after
 * it, one start for much longer. The memory is for the engine, which works inside. */
#define KG_SANDBOX_MAX 16 /* parked at a time, unless the configuration says otherwise */
#define KG_SANDBOX_MAX_KNOWN 16384
#define KG_SANDBOX_KEEP_MS 600000
#define KG_SANDBOX_KEEP_ONE_MS 86400000
#define KG_SANDBOX_MEMORY_BYTES (32 * 1024 * 1024)
#define KG_SANDBOX_PIDS 16

/* Lifetimes. */
#define KG_LEASE_LINGER_MS 1000 /* never more than a quarter of the idle timeout */
#define KG_BACKOFF_FIRST_MS 1000
#define KG_BACKOFF_LAST_MS 60000
#define KG_STOP_GRACE_MS 1000 /* between TERM and KILL of an idle worker */
#define KG_MAX_INSTANCES 8192
#define KG_MAX_CONCURRENCY 100000      /* slots of one instance */
#define KG_MAX_HABIT_BYTES (64 * 1024) /* of one saved habit */

#endif
