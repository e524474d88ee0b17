package minutemark.connect;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadConstraints;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.DateTimeException;
import java.time.Duration;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.time.temporal.ChronoUnit;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.kafka.common.config.AbstractConfig;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.ConfigDef.Importance;
import org.apache.kafka.common.config.ConfigDef.Type;
import org.apache.kafka.common.utils.Utils;
import org.apache.kafka.connect.connector.ConnectRecord;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaBuilder;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.errors.DataException;
import org.apache.kafka.connect.header.ConnectHeaders;
import org.apache.kafka.connect.transforms.Transformation;

/**
 * Turns the bytes of a message into the columns of a lake row: its key, and in payload the text as it was sent. _minute,
 * _shard and _day are computed from the event.
 *
 * <p>The rules are those of include/kafka/messages.py, include/lake/admission.py and include/lake/keys.py. If this class
 * is not sure, it is stricter: a DataException sends the message to the dead-letter topic, and the Python code decides.
 * The exception: events outside the declared range (earliest, most_ahead) pass into the lake, and Spark rejects them.
 */
public final class LakeEvent<R extends ConnectRecord<R>> implements Transformation<R> {
  private static final String CREATE_TIME = "create_time";
  private static final int LONGEST_EVENT = 4_000_000; // bytes
  private static final int LONGEST_ID = 1_000; // characters
  // As in include/readings.py.
  private static final String WHITE_SPACE =
      "\t\n\u000b\f\r\u001c\u001d\u001e\u001f \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008"
          + "\u2009\u200a\u2028\u2029\u202f\u205f\u3000\ufeff\u200b";
  private static final Pattern TIME_UUID =
      Pattern.compile("[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-1[0-9a-fA-F]{3}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}");
  private static final Pattern TIME =
      Pattern.compile("(\\d{4}-\\d\\d-\\d\\d)[ T](\\d\\d:\\d\\d:\\d\\d(?:\\.\\d{1,6})?)(Z|[+-]\\d\\d:\\d\\d| UTC)?");
  private static final LocalDateTime GREGORIAN_EPOCH = LocalDateTime.of(1582, 10, 15, 0, 0);
  private static final long TICKS_PER_MINUTE = 600_000_000L;
  private static final DateTimeFormatter MINUTE = DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:00'Z'");
  private static final DateTimeFormatter DAY = DateTimeFormatter.ofPattern("yyyy-MM-dd");
  // Python's parser accepts deeper nesting, and decides on messages that exceed this limit.
  private static final JsonFactory JSON =
      JsonFactory.builder()
          .streamReadConstraints(
              StreamReadConstraints.builder().maxNestingDepth(500).maxNumberLength(LONGEST_EVENT).build())
          .build();

  private static final ConfigDef CONFIG =
      new ConfigDef()
          .define("id.field", Type.STRING, Importance.HIGH, "Field that identifies an event")
          .define("time.field", Type.STRING, "", Importance.MEDIUM, "Field whose time stands in for a missing create_time")
          .define("null.words", Type.LIST, "", Importance.MEDIUM, "Texts that stand for an empty value")
          .define("shards", Type.INT, Importance.HIGH, "Shards of the lake table")
          .define("retention.seconds", Type.LONG, 0, Importance.MEDIUM, "Age at which the lake's minutes close; 0: never");

  private Set<String> identifying;
  private Set<String> nullWords;
  private String idField;
  private String timeField;
  private int shards;
  private Duration retention;
  private Schema schema;

  @Override
  public ConfigDef config() {
    return CONFIG;
  }

  @Override
  public void configure(Map<String, ?> settings) {
    AbstractConfig config = new AbstractConfig(CONFIG, settings);
    nullWords = new HashSet<>(config.getList("null.words"));
    idField = config.getString("id.field");
    timeField = config.getString("time.field");
    identifying = new HashSet<>(List.of(CREATE_TIME, idField, timeField));
    shards = config.getInt("shards");
    retention = Duration.ofSeconds(config.getLong("retention.seconds"));
    SchemaBuilder row = SchemaBuilder.struct().field("_minute", Schema.STRING_SCHEMA).field("_shard", Schema.INT32_SCHEMA);
    row.field("_day", Schema.STRING_SCHEMA).field("_id", Schema.STRING_SCHEMA);
    schema = row.field(CREATE_TIME, Schema.STRING_SCHEMA).field("payload", Schema.STRING_SCHEMA).build();
  }

  @Override
  public R apply(R message) {
    String payload = text((byte[]) message.value());
    Map<String, String> event = identifyingFieldsOf(payload);
    String id = event.get(idField);
    if (id == null && !idField.equals(CREATE_TIME)) {
      // Python derives an id from the content of the event.
      throw new DataException(idField + ", the event's id, is empty");
    }
    UUID createTime = createTimeOf(event, id);
    id = idField.equals(CREATE_TIME) ? createTime.toString() : id;
    if (id.codePointCount(0, id.length()) > LONGEST_ID) {
      throw new DataException(idField + ", the event's id, is longer than " + LONGEST_ID + " characters");
    }
    LocalDateTime minute = GREGORIAN_EPOCH.plusMinutes(createTime.timestamp() / TICKS_PER_MINUTE);
    if (!retention.isZero() && minute.isBefore(LocalDateTime.now(ZoneOffset.UTC).minus(retention))) {
      throw new DataException("its minute " + MINUTE.format(minute) + " is closed, because it is past the lake's retention");
    }
    Struct row = new Struct(schema).put("payload", payload).put("_id", id).put(CREATE_TIME, createTime.toString());
    row.put("_minute", MINUTE.format(minute)).put("_day", DAY.format(minute));
    row.put("_shard", Utils.toPositive(Utils.murmur2(id.getBytes(StandardCharsets.UTF_8))) % shards);
    return message.newRecord(
        message.topic(), message.kafkaPartition(), null, null, schema, row, message.timestamp(), new ConnectHeaders());
  }

  /** The fields that identify the event, as texts without the white space around them; other fields are only parsed. */
  private Map<String, String> identifyingFieldsOf(String payload) {
    Map<String, String> event = new HashMap<>();
    try (JsonParser json = JSON.createParser(payload)) {
      if (json.nextToken() != JsonToken.START_OBJECT) {
        throw new DataException("the message is JSON, but not an object of fields");
      }
      while (json.nextToken() != JsonToken.END_OBJECT) {
        String name = json.currentName();
        requireWhole(name);
        JsonToken token = json.nextToken();
        if (!identifying.contains(name)) {
          skip(json, token);
          continue;
        }
        if (token.isStructStart()) {
          throw new DataException(name + " is a nested value");
        }
        requireWhole(json.getText());
        event.put(name, token == JsonToken.VALUE_NULL ? "" : strip(json.getText()));
      }
      if (json.nextToken() != null) {
        throw new DataException("the message is not JSON: something follows its object");
      }
    } catch (IOException error) {
      throw new DataException("the message is not JSON: " + error.getMessage(), error);
    }
    event.values().removeIf(text -> text.isEmpty() || nullWords.contains(text));
    return event;
  }

  private static String text(byte[] value) {
    if (value == null) {
      throw new DataException("the message has no value");
    }
    if (value.length > LONGEST_EVENT) {
      throw new DataException("the message is longer than " + LONGEST_EVENT + " bytes, which the lake refuses");
    }
    try {
      String text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(value)).toString();
      if (text.startsWith("\uFEFF")) {
        throw new DataException("the message is not JSON: it begins with a byte order mark");
      }
      return text;
    } catch (CharacterCodingException error) {
      throw new DataException("the message is not UTF-8", error);
    }
  }

  /** Parses a value, nested or not, to its end. */
  private static void skip(JsonParser json, JsonToken first) throws IOException {
    int depth = 0;
    JsonToken token = first;
    do {
      if (token == JsonToken.FIELD_NAME || token == JsonToken.VALUE_STRING) {
        requireWhole(json.getText());
      }
      depth += token.isStructStart() ? 1 : token.isStructEnd() ? -1 : 0;
    } while (depth > 0 && (token = json.nextToken()) != null);
  }

  private static void requireWhole(String text) {
    if (text.codePoints().anyMatch(point -> point >= Character.MIN_SURROGATE && point <= Character.MAX_SURROGATE)) {
      throw new DataException("the message has an unpaired surrogate, which is not valid Unicode");
    }
  }

  /** The event's own create_time, or else a time-UUID of its time, as an import makes it. */
  private UUID createTimeOf(Map<String, String> event, String id) {
    String text = event.getOrDefault(CREATE_TIME, "");
    if (!timeField.isEmpty() && text.isEmpty() && id != null) {
      return timeUuid(timeOf(event.getOrDefault(timeField, "")), id);
    }
    if (!TIME_UUID.matcher(text).matches()) {
      throw new DataException("create_time '" + shortened(text) + "' is not a time-UUID (version 1, 36 characters)");
    }
    return UUID.fromString(text);
  }

  private LocalDateTime timeOf(String text) {
    Matcher parts = TIME.matcher(text);
    try {
      if (parts.matches()) {
        String zone = parts.group(3) == null || parts.group(3).equals(" UTC") ? "Z" : parts.group(3);
        LocalDateTime local = LocalDateTime.parse(parts.group(1) + "T" + parts.group(2));
        LocalDateTime time = local.minusSeconds(ZoneOffset.of(zone).getTotalSeconds());
        if (time.getYear() >= 1970 && time.getYear() <= 2100) {
          return time;
        }
      }
    } catch (DateTimeException error) {
      // Refused below, like any other text that is not a time.
    }
    throw new DataException(
        timeField + " '" + shortened(text) + "' is not a timestamp between 1970 and 2100, and there is no create_time");
  }

  private static UUID timeUuid(LocalDateTime time, String identity) {
    long ticks = ChronoUnit.MICROS.between(GREGORIAN_EPOCH, time) * 10;
    long most = (ticks & 0xFFFFFFFFL) << 32 | (ticks >>> 32 & 0xFFFF) << 16 | (ticks >>> 48 & 0x0FFF) | 0x1000;
    try {
      byte[] digest = MessageDigest.getInstance("SHA-256").digest(identity.getBytes(StandardCharsets.UTF_8));
      long rest = ByteBuffer.wrap(digest).getLong();
      return new UUID(most, rest & 0x3FFFFFFFFFFFFFFFL | 0x8000000000000000L | 0x030000000000L);
    } catch (NoSuchAlgorithmException error) {
      throw new IllegalStateException(error);
    }
  }

  private static String strip(String text) {
    int begin = 0;
    int end = text.length();
    while (begin < end && WHITE_SPACE.indexOf(text.charAt(begin)) >= 0) {
      begin++;
    }
    while (begin < end && WHITE_SPACE.indexOf(text.charAt(end - 1)) >= 0) {
      end--;
    }
    return text.substring(begin, end);
  }

  private static String shortened(String text) {
    return text.length() > 60 ? text.substring(0, 60) : text;
  }

  @Override
  public void close() {}
}
