FROM astrocrpublic.azurecr.io/runtime:3.3-8-python-3.12

# The image is Debian 13, which has no Java 17, the newest version that Spark 3.5 supports.
USER root
ENV JAVA_HOME=/opt/java/openjdk
ENV PATH="${JAVA_HOME}/bin:${PATH}"
COPY --from=eclipse-temurin:17-jre-noble /opt/java/openjdk /opt/java/openjdk

# The Cassandra connector, the MySQL driver and, for MINUTEMARK_INGEST=spark, Spark's Kafka source, resolved once, at build time:
# a run downloads nothing.
ENV MINUTEMARK_SPARK_JARS=/opt/minutemark/jars \
    MINUTEMARK_STREAM_JARS=/opt/minutemark/stream \
    MINUTEMARK_SPARK_ARCHIVE=/opt/minutemark/spark.jsa
RUN --mount=type=bind,from=maven:3.9-eclipse-temurin-17,source=/usr/share/maven,target=/usr/share/maven \
    --mount=type=cache,target=/root/.m2 \
    /usr/share/maven/bin/mvn --batch-mode --no-transfer-progress --file include/spark/pom.xml \
      dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="${MINUTEMARK_SPARK_JARS}" \
    && /usr/share/maven/bin/mvn --batch-mode --no-transfer-progress --file include/stream/pom.xml \
      dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="${MINUTEMARK_STREAM_JARS}" \
    && chown -R astro:0 /opt/minutemark

# An archive of the classes that a driver loads: it halves the start-up time of Spark, which also starts without it.
USER astro
RUN python -m include.spark.warm_start || echo "No warm-start archive: Spark starts more slowly."
