# docker build -t act2see .
# TORCH_INDEX names the index of another build of torch, such as the smaller one for CPUs alone: see docs/docker.md.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
ARG TORCH_INDEX=
ARG EXTRAS=local,openai,serve,mcp
RUN python -m venv --without-pip /opt/act2see
# torch comes first and by its exact version: no other package then brings in another build.
RUN pip --python /opt/act2see/bin/python install --no-cache-dir torch==2.13.0 ${TORCH_INDEX:+--index-url ${TORCH_INDEX}}
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip --python /opt/act2see/bin/python install --no-cache-dir ".[${EXTRAS}]"
RUN pip --python /opt/act2see/bin/python check

FROM python:${PYTHON}-slim
COPY --from=build /opt/act2see /opt/act2see
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin act2see && mkdir /videos /runs && chown act2see /runs
ENV PATH=/opt/act2see/bin:$PATH HF_HOME=/home/act2see/.cache/huggingface OMP_NUM_THREADS=4
USER act2see
WORKDIR /runs
EXPOSE 7860 8000
ENTRYPOINT ["act2see"]
CMD ["demo"]
