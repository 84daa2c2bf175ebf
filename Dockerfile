# longmind in a container. The compiler is in the first stage only; the second has Node, the built package, the compiled
# kernels (AVX-512, AVX2 and portable: chosen when it starts) and the small model 'memo', and runs as nobody in particular.
#
#   docker build -t longmind .
#   docker run -p 23333:23333 -v models:/models -v sessions:/sessions -v ./keys.txt:/run/keys.txt:ro longmind \
#     serve --server-name 0.0.0.0 --api-keys @/run/keys.txt --model default --cache-dir /models --session-store /sessions
ARG NODE=node:22-bookworm-slim

FROM ${NODE} AS build
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install -y --no-install-recommends g++ \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
COPY packages packages
RUN npm ci --no-audit --no-fund
COPY tsconfig.json README.md LICENSE CHANGELOG.md ARCHITECTURE.md ./
COPY bin bin
COPY native native
COPY models models
COPY docs docs
COPY bench bench
COPY test test
COPY src src
# the SDK for --otlp-endpoint and the clients for --session-store become dependencies of this image; everything is what the lock file says
# hadolint ignore=DL3016,SC2046,SC2086
RUN npm run build \
  && optional=$(node -p "Object.entries(require('./package.json').peerDependencies).map((p) => p.join('@')).join(' ')") \
  && npm pkg delete peerDependencies peerDependenciesMeta \
  && npm install --save-prod --no-audit --no-fund $optional \
  && npm prune --omit=dev --no-audit --no-fund \
  && mkdir native/cpu/build \
  && node -e "import('/src/dist/src/device/cpu/build.js').then((m) => m.buildNativeLibrary(console.log, '/src/native/cpu/build'))" \
  && find node_modules -name '*.map' -delete \
  && rm -rf dist/test dist/bench packages/*/src packages/*/test packages/*/dist/test

FROM ${NODE}
LABEL org.opencontainers.image.title="longmind" \
  org.opencontainers.image.description="An LLM inference engine and server for many long conversations" \
  org.opencontainers.image.licenses="Apache-2.0"
# models that are fetched, and sessions, live outside of the container
RUN mkdir -p /models /sessions && chown 1000:1000 /models /sessions
WORKDIR /app
COPY --from=build /src/package.json /src/LICENSE /src/README.md ./
COPY --from=build /src/bin bin
COPY --from=build /src/packages packages
COPY --from=build /src/models models
COPY --from=build /src/native native
COPY --from=build /src/node_modules node_modules
COPY --from=build /src/dist dist
ENV NODE_ENV=production
USER 1000:1000
EXPOSE 23333
VOLUME ["/models", "/sessions"]
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:23333/ready').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "/app/bin/longmind.js"]
# on the container's own loopback address: other addresses want keys, see above
CMD ["serve", "--cache-dir", "/models", "--session-store", "/sessions"]
