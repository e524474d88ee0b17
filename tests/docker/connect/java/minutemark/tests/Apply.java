package minutemark.tests;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import minutemark.connect.LakeEvent;
import org.apache.kafka.connect.data.Field;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.errors.DataException;
import org.apache.kafka.connect.sink.SinkRecord;

/**
 * The transform on its own. The arguments are its settings, name=value. A line of input is a message in Base64, or "-" for
 * one without a value; a line of output is "refused" or "event" and then texts in Base64: the reason, or each name and
 * value of the row.
 */
public final class Apply {
  public static void main(String[] arguments) throws Exception {
    Map<String, String> settings = new HashMap<>();
    for (String argument : arguments) {
      settings.put(argument.substring(0, argument.indexOf('=')), argument.substring(argument.indexOf('=') + 1));
    }
    LakeEvent<SinkRecord> transform = new LakeEvent<>();
    transform.configure(settings);
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      byte[] value = line.equals("-") ? null : Base64.getDecoder().decode(line);
      System.out.println(outcome(transform, new SinkRecord("topic", 3, null, null, null, value, 0)));
    }
  }

  private static String outcome(LakeEvent<SinkRecord> transform, SinkRecord message) {
    StringBuilder line = new StringBuilder();
    try {
      Struct row = (Struct) transform.apply(message).value();
      line.append("event");
      for (Field field : row.schema().fields()) {
        if (row.get(field) != null) {
          line.append(' ').append(encoded(field.name())).append(' ').append(encoded(row.get(field).toString()));
        }
      }
    } catch (DataException reason) {
      line.append("refused ").append(encoded(reason.getMessage()));
    }
    return line.toString();
  }

  private static String encoded(String text) {
    return Base64.getEncoder().encodeToString(text.getBytes(StandardCharsets.UTF_8));
  }
}
