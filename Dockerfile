# SPDX-License-Identifier: Apache-2.0
FROM debian:bookworm-slim AS build
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        gcc libc6-dev cmake make pkg-config libuv1-dev libcurl4-openssl-dev libcjson-dev \
        libssl-dev libseccomp-dev libnghttp2-dev node-llhttp
WORKDIR /src
COPY CMakeLists.txt ./
COPY base base
COPY proxy proxy
COPY reaper reaper
COPY orchestrator orchestrator
RUN cmake -S . -B /build -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF \
    && cmake --build /build -j "$(nproc)" \
    && strip /build/kipgate \
    && install -d -o 65532 -g 65532 /state

FROM debian:bookworm-slim
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        libuv1 libcurl4 libcjson1 libssl3 libseccomp2 libnghttp2-14 ca-certificates \
    && rm -rf /var/lib/apt/lists/* /var/cache/debconf/* /var/cache/apt/*.bin /var/log/*
COPY --from=build /build/kipgate /usr/bin/kipgate
# A named volume begins as a copy of this, with its owner.
COPY --from=build --chown=65532:65532 /state /var/lib/kipgate
VOLUME /var/lib/kipgate
EXPOSE 8080
USER 65532:65532
HEALTHCHECK --interval=10s --timeout=3s CMD ["kipgate", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["kipgate"]
