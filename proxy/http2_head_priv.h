/* SPDX-License-Identifier: Apache-2.0 */
/* Heads of HTTP/2 as the HTTP/1.1 text that they mean, and back. No I/O.
 * The difficulty: every rule about a message is decided on that text, by the guard and http1.c, so
 * nothing may get into it that reads differently there than it did as a field. */
#ifndef PROXY_HTTP2_HEAD_PRIV_H
#define PROXY_HTTP2_HEAD_PRIV_H

#include "proxy/guard.h"
#include "proxy/http2_priv.h"

#define HTTP2_TEXT_BYTES (KG_MAX_HEAD_BYTES + 1024) /* room for any head that is not too_large */
#define HTTP2_NONCE_BYTES 16

/* The first three write a whole text into out[HTTP2_TEXT_BYTES], its length to *n, and give a
 * verdict: PROXY_BAD_REQUEST is a malformed message by RFC 9113 8 (a stream error), any other
 * reason is to be answered. The text is then for guard_scan, http1_parse_*, body_take. */

/* A message without an end (`end`: nothing follows the head) and without a length is "chunked"
 * there. An extended CONNECT for a WebSocket (RFC 8441) becomes the GET that asks for one, with
 * `nonce` as its key; nobody else needs one (NULL). */
bool http2_head_asks_for_tunnel(const struct http2_head *head);
struct guard_verdict http2_head_request(const struct http2_head *head, bool end,
                                        const char nonce[HTTP2_NONCE_BYTES], char *out, size_t *n);
/* The reason phrase is empty. With `end` and without a length it has "Content-Length: 0" where
 * `body` says that there could be one (not after HEAD). */
struct guard_verdict http2_head_response(const struct http2_head *head, bool end, bool body,
                                         char *out, size_t *n);
/* As the end of a chunked body: "0", the lines, an empty line. */
struct guard_verdict http2_head_trailers(const struct http2_head *head, char *out, size_t *n);

/* The way back, of a text of ours (rewrite.h) or of checked trailer lines. Names are made lower
 * case where they lie, fields point into `text`; what has no meaning in HTTP/2 is left out. Gives
 * how many. */
unsigned http2_fields_request(char *text, size_t n, struct http2_field out[HTTP2_MAX_FIELDS]);
/* A 101 becomes the 200 of RFC 8441. */
unsigned http2_fields_response(char *text, size_t n, struct http2_field out[HTTP2_MAX_FIELDS]);
unsigned http2_fields_trailers(char *lines, size_t n, struct http2_field out[HTTP2_MAX_FIELDS]);

#endif
