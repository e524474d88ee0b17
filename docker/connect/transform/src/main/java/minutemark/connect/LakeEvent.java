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
import java.util.LinkedHashSet;
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
 * Turns the bytes of a message into the fields of a lake row: the declared fields as texts, and _minute, _shard and _day.
 *
 * <p>Every field is always there, null where the event does not have it. The rules are those of
 * include/kafka/messages.py, include/operations/admission.py and include/lake/keys.py. Where this class is not sure, it
 * is stricter: a DataException sends the message to the dead-letter topic, and the Python code there has the last word.
 */
public final class LakeEvent<R extends ConnectRecord<R>> implements Transformation<R> {
  private static final String CREATE_TIME = "create_time";
  private static final int LONGEST_EVENT = 4_000_000; // bytes
  private static final int LONGEST_ID = 1_000; // characters
  private static final String NESTED = new String("nested"); // compared by identity
  private static final Pattern TIME_UUID =
      Pattern.compile("[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-1[0-9a-fA-F]{3}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}");
  private static final Pattern TIME =
      Pattern.compile("(\\d{4}-\\d\\d-\\d\\d)[ T](\\d\\d:\\d\\d:\\d\\d(?:\\.\\d{1,6})?)(Z|[+-]\\d\\d:\\d\\d| UTC)?");
  private static final LocalDateTime GREGORIAN_EPOCH = LocalDateTime.of(1582, 10, 15, 0, 0);
  private static final long TICKS_PER_MINUTE = 600_000_000L;
  private static final DateTimeFormatter MINUTE = DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:00'Z'");
  private static final DateTimeFormatter DAY = DateTimeFormatter.ofPattern("yyyy-MM-dd");
  // Python's parser accepts deeper nesting; what is deeper than this is left to it.
  private static final JsonFactory JSON =
      JsonFactory.builder()
          .streamReadConstraints(
              StreamReadConstraints.builder().maxNestingDepth(500).maxNumberLength(LONGEST_EVENT).build())
          .build();

  private static final ConfigDef CONFIG =
      new ConfigDef()
          .define("fields", Type.LIST, Importance.HIGH, "Fields of an event besides create_time; others are ignored")
          .define("id.field", Type.STRING, Importance.HIGH, "Field that identifies an event")
          .define("time.field", Type.STRING, "", Importance.MEDIUM, "Field whose time stands in for a missing create_time")
          .define("absent", Type.LIST, "", Importance.MEDIUM, "Texts that mean no value")
          .define("shards", Type.INT, Importance.HIGH, "Shards of the lake table")
          .define("retention.seconds", Type.LONG, 0, Importance.MEDIUM, "Age at which the lake's minutes close; 0: never");

  private List<String> fields;
  private Set<String> declared;
  private Set<String> absent;
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
    fields = config.getList("fields");
    declared = new HashSet<>(fields);
    declared.add(CREATE_TIME);
    absent = new HashSet<>(config.getList("absent"));
    idField = config.getString("id.field");
    timeField = config.getString("time.field");
    shards = config.getInt("shards");
    retention = Duration.ofSeconds(config.getLong("retention.seconds"));
    SchemaBuilder row = SchemaBuilder.struct().field("_minute", Schema.STRING_SCHEMA).field("_shard", Schema.INT32_SCHEMA);
    row.field("_day", Schema.STRING_SCHEMA).field(CREATE_TIME, Schema.STRING_SCHEMA);
    new LinkedHashSet<>(fields).forEach(name -> row.field(name, Schema.OPTIONAL_STRING_SCHEMA));
    schema = row.build();
  }

  @Override
  public R apply(R message) {
    Map<String, String> event = fieldsOf((byte[]) message.value());
    String id = idField.equals(CREATE_TIME) ? null : event.get(idField);
    if (!idField.equals(CREATE_TIME) && (strip(id).isEmpty() || absent.contains(strip(id)))) {
      throw new DataException(idField + ", the event's id, is empty");
    }
    UUID createTime = createTimeOf(event, id);
    id = id == null ? createTime.toString() : id;
    if (id.codePointCount(0, id.length()) > LONGEST_ID) {
      throw new DataException(idField + ", the event's id, is longer than " + LONGEST_ID + " characters");
    }
    LocalDateTime minute = GREGORIAN_EPOCH.plusMinutes(createTime.timestamp() / TICKS_PER_MINUTE);
    if (!retention.isZero() && minute.isBefore(LocalDateTime.now(ZoneOffset.UTC).minus(retention))) {
      throw new DataException("its minute " + MINUTE.format(minute) + " is older than the lake keeps: closed");
    }
    Struct row = new Struct(schema);
    fields.forEach(name -> row.put(name, event.get(name)));
    row.put(CREATE_TIME, createTime.toString());
    row.put("_minute", MINUTE.format(minute)).put("_day", DAY.format(minute));
    row.put("_shard", Utils.toPositive(Utils.murmur2(id.getBytes(StandardCharsets.UTF_8))) % shards);
    return message.newRecord(
        message.topic(), message.kafkaPartition(), null, null, schema, row, message.timestamp(), new ConnectHeaders());
  }

  /** The declared fields of a message that have a value. Numbers keep the digits that their producer wrote. */
  private Map<String, String> fieldsOf(byte[] value) {
    if (value == null) {
      throw new DataException("the message has no value");
    }
    if (value.length > LONGEST_EVENT) {
      throw new DataException("the message is longer than " + LONGEST_EVENT + " bytes, which the lake refuses");
    }
    Map<String, String> event = new HashMap<>();
    try (JsonParser json = JSON.createParser(text(value))) {
      if (json.nextToken() != JsonToken.START_OBJECT) {
        throw new DataException("the message is JSON, but not an object of fields");
      }
      while (json.nextToken() != JsonToken.END_OBJECT) {
        String name = json.currentName();
        JsonToken token = json.nextToken();
        json.skipChildren();
        if (declared.contains(name)) {
          event.put(name, token.isStructStart() ? NESTED : token == JsonToken.VALUE_NULL ? "" : json.getText());
        }
      }
      if (json.nextToken() != null) {
        throw new DataException("the message is not JSON: something follows its object");
      }
    } catch (IOException error) {
      throw new DataException("the message is not JSON: " + error.getMessage(), error);
    }
    event.forEach(LakeEvent::check);
    event.values().removeIf(text -> text.isEmpty() || absent.contains(text));
    return event;
  }

  private static String text(byte[] value) {
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

  private static void check(String name, String text) {
    if (text == NESTED) {
      throw new DataException(name + " is neither text nor a number: send nested values as JSON in a text");
    }
    if (text.codePoints().anyMatch(one -> one >= Character.MIN_SURROGATE && one <= Character.MAX_SURROGATE)) {
      throw new DataException(name + " holds half of a character (a lone surrogate), which no text can");
    }
  }

  /** What the event says, or else its own time made a time-UUID, as an import makes it. */
  private UUID createTimeOf(Map<String, String> event, String id) {
    String text = strip(event.get(CREATE_TIME));
    if (!timeField.isEmpty() && (text.isEmpty() || absent.contains(text))) {
      return timeUuid(timeOf(strip(event.get(timeField))), id);
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
        LocalDateTime time = LocalDateTime.parse(parts.group(1) + "T" + parts.group(2));
        if (time.getYear() >= 1970 && time.getYear() <= 2100) {
          String zone = parts.group(3) == null || parts.group(3).equals(" UTC") ? "Z" : parts.group(3);
          return time.minusSeconds(ZoneOffset.of(zone).getTotalSeconds());
        }
      }
    } catch (DateTimeException error) {
      // Refused below, as any other text.
    }
    throw new DataException(
        timeField + " '" + shortened(text) + "' is not a time of the years 1970 to 2100, and there is no create_time");
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

  /** Without white space around it, as Python's str.strip() sees white space. */
  private static String strip(String text) {
    if (text == null) {
      return "";
    }
    int begin = 0;
    int end = text.length();
    while (begin < end && isSpace(text.charAt(begin))) {
      begin++;
    }
    while (begin < end && isSpace(text.charAt(end - 1))) {
      end--;
    }
    return text.substring(begin, end);
  }

  private static boolean isSpace(char one) {
    return Character.isWhitespace(one) || Character.isSpaceChar(one) || one == '\u0085';
  }

  private static String shortened(String text) {
    return text.length() > 60 ? text.substring(0, 60) : text;
  }

  @Override
  public void close() {}
}
