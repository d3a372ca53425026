# iMi as one image: the API, the command line and, without IMI_DATABASE_URL, its own PostgreSQL 18.
FROM python:3.13-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md dbmate.yml ./
COPY db db
COPY sql sql
COPY imi imi
RUN pip install --no-cache-dir --prefix=/install .

FROM python:3.13-slim-bookworm
RUN apt-get update \
 && apt-get install --yes --no-install-recommends git \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --create-home --home-dir /var/lib/imi imi
COPY --from=build /install /usr/local
USER imi
ENV IMI_HOST=0.0.0.0 IMI_DATA_DIR=/var/lib/imi
VOLUME /var/lib/imi
EXPOSE 8400
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8400/health', timeout=2)"]
STOPSIGNAL SIGTERM
CMD ["imi", "up"]
