package minutemark.tests;

import com.datastax.oss.driver.api.core.CqlSession;
import com.datastax.oss.driver.api.core.DefaultConsistencyLevel;
import com.datastax.oss.driver.api.core.config.DefaultDriverOption;
import com.datastax.oss.driver.api.core.config.DriverConfigLoader;
import com.datastax.oss.driver.api.core.cql.AsyncResultSet;
import com.datastax.oss.driver.api.core.cql.BoundStatementBuilder;
import com.datastax.oss.driver.api.core.cql.PreparedStatement;
import com.datastax.oss.driver.api.core.type.DataType;
import com.datastax.oss.driver.api.core.type.DataTypes;
import java.net.InetSocketAddress;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.connect.connector.Task;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.errors.ConnectException;
import org.apache.kafka.connect.errors.RetriableException;
import org.apache.kafka.connect.sink.SinkConnector;
import org.apache.kafka.connect.sink.SinkRecord;
import org.apache.kafka.connect.sink.SinkTask;

/**
 * Writes to Cassandra with the settings and the rules of the DataStax sink: every mapped field must be in every message,
 * a null leaves its column unset, and a message without a value for a column of the key fails. Where the DataStax sink
 * would retry such a message forever, this sink fails its task for good, so that a test sees the error.
 */
public final class StrictSink extends SinkConnector {
  private Map<String, String> settings;

  @Override
  public void start(Map<String, String> settings) {
    this.settings = settings;
  }

  @Override
  public Class<? extends Task> taskClass() {
    return Writer.class;
  }

  @Override
  public List<Map<String, String>> taskConfigs(int maxTasks) {
    return List.of(settings);
  }

  @Override
  public void stop() {}

  @Override
  public ConfigDef config() {
    return new ConfigDef();
  }

  @Override
  public String version() {
    return "1";
  }

  private record Table(PreparedStatement insert, Map<String, String> fields, List<String> key) {}

  public static final class Writer extends SinkTask {
    private static final Pattern TABLE = Pattern.compile("topic\\.(.+)\\.(\\w+)\\.(\\w+)\\.query");
    private final List<Table> tables = new ArrayList<>();
    private CqlSession session;

    @Override
    public void start(Map<String, String> settings) {
      DriverConfigLoader options =
          DriverConfigLoader.programmaticBuilder()
              .withDuration(DefaultDriverOption.REQUEST_TIMEOUT, Duration.ofSeconds(5))
              .withString(
                  DefaultDriverOption.TIMESTAMP_GENERATOR_CLASS,
                  settings.get("datastax-java-driver.advanced.timestamp-generator.class"))
              .build();
      session =
          CqlSession.builder()
              .withConfigLoader(options)
              .addContactPoint(
                  new InetSocketAddress(settings.get("contactPoints"), Integer.parseInt(settings.get("port"))))
              .withLocalDatacenter(settings.get("loadBalancing.localDc"))
              .withAuthCredentials(settings.get("auth.username"), settings.get("auth.password"))
              .build();
      settings.forEach(
          (name, query) -> {
            Matcher place = TABLE.matcher(name);
            if (place.matches()) {
              String mapping = settings.get(name.replaceAll("query$", "mapping"));
              tables.add(table(place.group(2), place.group(3), query, mapping));
            }
          });
    }

    private Table table(String keyspace, String name, String query, String mapping) {
      Map<String, String> fields = new LinkedHashMap<>();
      for (String pair : mapping.split(",")) {
        String[] sides = pair.trim().split("=value\\.");
        fields.put(sides[0], sides[1]);
      }
      List<String> key = new ArrayList<>();
      session.getMetadata().getKeyspace(keyspace).flatMap(metadata -> metadata.getTable(name)).orElseThrow()
          .getPrimaryKey().forEach(column -> key.add(column.getName().asInternal()));
      return new Table(session.prepare(query), fields, key);
    }

    @Override
    public void put(Collection<SinkRecord> messages) {
      List<CompletableFuture<AsyncResultSet>> writes = new ArrayList<>();
      for (SinkRecord message : messages) {
        for (Table table : tables) {
          writes.add(session.executeAsync(bound(table, (Struct) message.value()).build()).toCompletableFuture());
        }
      }
      try {
        writes.forEach(CompletableFuture::join);
      } catch (CompletionException error) {
        throw new RetriableException("the lake refused a write", error.getCause());
      }
    }

    private static BoundStatementBuilder bound(Table table, Struct row) {
      BoundStatementBuilder statement = table.insert().boundStatementBuilder();
      table.fields().forEach(
          (column, field) -> {
            if (row.schema().field(field) == null) {
              throw new ConnectException("Required field 'value." + field + "' was missing from the message");
            }
            if (row.get(field) != null) {
              set(statement, column, row.get(field));
            } else if (table.key().contains(column)) {
              throw new ConnectException("Column " + column + " of the key cannot be mapped to null");
            }
          });
      return statement.setConsistencyLevel(DefaultConsistencyLevel.LOCAL_QUORUM);
    }

    private static void set(BoundStatementBuilder statement, String column, Object value) {
      DataType type = statement.getType(column);
      if (type.equals(DataTypes.INT)) {
        statement.setInt(column, (Integer) value);
      } else if (type.equals(DataTypes.TIMESTAMP)) {
        statement.setInstant(column, Instant.parse((String) value));
      } else if (type.equals(DataTypes.DATE)) {
        statement.setLocalDate(column, LocalDate.parse((String) value));
      } else if (type.equals(DataTypes.TIMEUUID)) {
        statement.setUuid(column, UUID.fromString((String) value));
      } else {
        statement.setString(column, (String) value);
      }
    }

    @Override
    public void stop() {
      if (session != null) {
        session.close();
      }
    }

    @Override
    public String version() {
      return "1";
    }
  }
}
