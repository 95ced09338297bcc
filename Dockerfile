# syntax=docker/dockerfile:1
# One image for `api`, `worker` and `migrate`. Temporal's native core needs glibc, hence slim and not alpine.
FROM node:24-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
COPY contracts/package.json contracts/
COPY drizzle/package.json drizzle/
COPY api/package.json api/
COPY workers/package.json workers/
# Naming the workspaces leaves out the root's own dependencies, the Node binaries among them. `--omit=optional` would do
# that too, but would also leave out swc's platform package, without which the worker can't bundle its workflows.
# Temporal's native core comes for five platforms; one is kept.
RUN --mount=type=cache,target=/root/.npm \
    npm ci --omit=dev --ignore-scripts -w contracts -w drizzle -w api -w workers \
 && find node_modules/@temporalio/core-bridge/releases -mindepth 1 -maxdepth 1 \
      ! -name "$(uname -m)-unknown-linux-gnu" -exec rm -r {} +

FROM node:24-slim
# Nothing is installed in a running container.
RUN rm -r /usr/local/lib/node_modules /opt/yarn-* /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/yarn /usr/local/bin/yarnpkg
ENV NODE_ENV=production
WORKDIR /app
COPY --from=dependencies /app/node_modules node_modules
COPY package.json ./
COPY contracts contracts
COPY drizzle drizzle
COPY api api
COPY workers workers
# The user node. A number, because Kubernetes can't tell that a name is not root's.
USER 1000:1000
EXPOSE 8000
# Exec form and no npm, so that SIGTERM reaches the program. The other programs run with another command:
# `node workers/main.ts`, `node drizzle/migrate.ts`.
CMD ["node", "api/node.ts"]
