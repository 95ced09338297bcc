# syntax=docker/dockerfile:1
# One image for `api`, `worker` and `migrate`. Temporal's native core needs glibc, hence slim and not alpine.

# What the built programs load at run time: the dependencies of the workspace `build`, no more.
FROM node:24.21.0-trixie-slim@sha256:8ec5d7557396cfe32d21c3f9c13072355ceab22b584578ca4bb28af31120cffe AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
COPY build/package.json build/
# Naming the workspace leaves out the root's own dependencies, the Node binaries among them. Temporal's native core comes for five
# platforms, and with its sources; one is kept, and none of these. The compiler is for bundling workflows, which the build has done.
# Neither types nor source maps are read.
RUN --mount=type=cache,target=/root/.npm \
    npm ci --omit=dev --ignore-scripts -w build \
 && find node_modules/@temporalio/core-bridge/releases -mindepth 1 -maxdepth 1 \
      ! -name "$(uname -m)-unknown-linux-gnu" -exec rm -r {} + \
 && rm -r node_modules/@temporalio/core-bridge/sdk-core node_modules/@swc \
 && find node_modules -type f \( -name '*.ts' -o -name '*.mts' -o -name '*.cts' -o -name '*.map' \) -delete

FROM node:24.21.0-trixie-slim@sha256:8ec5d7557396cfe32d21c3f9c13072355ceab22b584578ca4bb28af31120cffe AS programs
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
COPY contracts/package.json contracts/
COPY drizzle/package.json drizzle/
COPY api/package.json api/
COPY workers/package.json workers/
COPY build/package.json build/
RUN --mount=type=cache,target=/root/.npm \
    npm ci --ignore-scripts -w contracts -w drizzle -w api -w workers -w build
COPY contracts contracts
COPY drizzle drizzle
COPY api api
COPY workers workers
COPY build build
RUN node build/build.ts

FROM node:24.21.0-trixie-slim@sha256:8ec5d7557396cfe32d21c3f9c13072355ceab22b584578ca4bb28af31120cffe
# Nothing is installed in a running container.
RUN rm -r /usr/local/lib/node_modules /opt/yarn-* /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/yarn /usr/local/bin/yarnpkg
ENV NODE_ENV=production
WORKDIR /app
COPY --from=dependencies /app/node_modules node_modules
COPY --from=programs /app/dist dist
# Each loads all that it needs before it prints its help.
RUN for program in api worker migrate audit prices prune; do node "dist/$program.js" --help > /dev/null || exit 1; done
# The user node. A number, because Kubernetes can't tell that a name is not root's.
USER 1000:1000
EXPOSE 8000
# Exec form and no npm, so that SIGTERM reaches the program. The other programs run with another command:
# `node dist/worker.js`, `node dist/migrate.js`.
CMD ["node", "dist/api.js"]
