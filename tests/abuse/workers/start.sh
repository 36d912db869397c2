#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# start.sh nginx|apache|haproxy|lighttpd|node: that server on 8080. All but node pass what they take
# for requests on to the witness, which starts them and says on standard output what it was asked.
set -eu
cd /abuse
case $1 in
nginx) exec node witness.js 9000 nginx -c /abuse/nginx.conf ;;
apache) exec node witness.js 9000 apache2 -f /abuse/apache.conf -DFOREGROUND ;;
haproxy) exec node witness.js 9000 haproxy -q -db -f haproxy.cfg ;;
lighttpd) exec node witness.js 9000 lighttpd -D -f lighttpd.conf ;;
node) exec node witness.js 8080 ;;
esac
