/* SPDX-License-Identifier: Apache-2.0 */
/* Between the halves of a session: http2.c (output, streams) and http2_input.c (heads, floods).
 * The difficulty: only these three files know nghttp2. */
#ifndef PROXY_HTTP2_SESSION_PRIV_H
#define PROXY_HTTP2_SESSION_PRIV_H

#include "proxy/http2_priv.h"
#include <nghttp2/nghttp2.h>

#define FRAME_HEAD_BYTES 9
#define MAX_OUTBOUND_FRAMES 1000 /* acknowledgements and the like that the peer does not read */

/* --- http2.c */
struct http2_stream *http2_find(struct http2 *h, int32_t id); /* NULL: none, or closed */
void http2_stream_open(struct http2 *h, struct http2_stream *s, int32_t id);
void http2_mark(struct http2 *h); /* something is to be done at the end of this turn */
void http2_turn_soon(struct proxy *p);

/* --- http2_input.c */
void http2_set_input(nghttp2_session_callbacks *callbacks, nghttp2_option *options);
uint32_t http2_code_of(int error); /* for a GOAWAY after mem_recv failed */
/* Valid until the next call. `stay`: the bytes stay until the frame is made, so no copy is needed.
 */
const nghttp2_nv *http2_nva(const struct http2_field *fields, unsigned count, bool stay);
/* From read_data, at the end of the data. 0 or an error of nghttp2's. */
int http2_submit_trailers(struct http2_stream *s);
void http2_head_done(struct http2 *h); /* gives the assembly back, if there is one */
void http2_heads_free(struct proxy *p);

#endif
