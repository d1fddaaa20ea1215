# docker build -t fathomlab .
# docker run --rm -v "$PWD/runs:/runs" fathomlab run 1_2 --quick
#
# TORCH=cpu       the CPU build of PyTorch, if the package index of PIP_EXTRA_INDEX_URL has it; otherwise the default build
# TORCH=default   the default build, for --gpus all

ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:${PYTHON}-slim
ARG TORCH=cpu
ARG PIP_EXTRA_INDEX_URL=
COPY requirements.lock /tmp/requirements.lock
# hadolint ignore=DL3013
RUN pinned="$(grep '^torch==' /tmp/requirements.lock)" \
    && { { [ "$TORCH" = cpu ] && pip install --no-cache-dir "$pinned+cpu"; } || pip install --no-cache-dir "$pinned"; } \
    && pip install --no-cache-dir --requirement /tmp/requirements.lock
RUN --mount=type=bind,from=build,source=/dist,target=/dist pip install --no-cache-dir --no-deps /dist/*.whl

# Everything but /runs and /tmp may be read-only, and any user may run it: docker run --read-only --tmpfs /tmp --user "$(id -u)" ...
ENV FATHOMLAB_RUNS=/runs HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib PYTHONDONTWRITEBYTECODE=1
RUN useradd --uid 1000 --no-create-home lab && mkdir /runs /work && chown lab /runs
USER 1000
VOLUME /runs
WORKDIR /work
ENTRYPOINT ["fathomlab"]
CMD ["--help"]
