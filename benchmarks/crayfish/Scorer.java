package bench;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.core.StreamWriteFeature;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.List;
import java.util.Map;

/**
 * The Crayfish job for an outside harness's Java peers, in place of their own scorer: a JSON array of 784 numbers
 * to the model's greatest output. Streaming parser, one direct buffer, one run of the model a batch.
 */
final class Scorer {
    private static final int INPUTS = 784;
    private static final double THRESHOLD = 5.3;

    private final JsonFactory json = JsonFactory.builder()
            .enable(StreamReadFeature.USE_FAST_DOUBLE_PARSER)
            .enable(StreamWriteFeature.USE_FAST_DOUBLE_WRITER)
            .build();
    private final OrtEnvironment environment = OrtEnvironment.getEnvironment();
    private final OrtSession session;
    private final String input;
    private final String[] devices;
    private final long[] times;
    private final FloatBuffer rows;
    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream(128);

    Scorer(int capacity) {
        try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
            options.setIntraOpNumThreads(1);
            session = environment.createSession(Settings.MODEL, options);
        } catch (OrtException e) {
            throw new IllegalStateException(e);
        }
        input = session.getInputNames().iterator().next();
        devices = new String[capacity];
        times = new long[capacity];
        rows = ByteBuffer.allocateDirect(capacity * INPUTS * Float.BYTES)
                .order(ByteOrder.nativeOrder())
                .asFloatBuffer();
    }

    byte[][] score(List<byte[]> events) {
        int count = events.size();
        try {
            for (int row = 0; row < count; row++) {
                parse(events.get(row), row);
            }
            byte[][] results = new byte[count][];
            FloatBuffer filled = rows.duplicate().limit(count * INPUTS);
            try (OnnxTensor tensor = OnnxTensor.createTensor(environment, filled, new long[] {count, 1, INPUTS});
                    OrtSession.Result result = session.run(Map.of(input, tensor))) {
                FloatBuffer answer = ((OnnxTensor) result.get(0)).getFloatBuffer();
                int columns = answer.remaining() / count;
                for (int row = 0; row < count; row++) {
                    float greatest = Float.NEGATIVE_INFINITY;
                    for (int column = 0; column < columns; column++) {
                        greatest = Math.max(greatest, answer.get(row * columns + column));
                    }
                    results[row] = encode(row, greatest);
                }
            }
            return results;
        } catch (IOException | OrtException e) {
            throw new IllegalStateException(e);
        }
    }

    private void parse(byte[] event, int row) throws IOException {
        try (JsonParser parser = json.createParser(event)) {
            parser.nextToken();
            for (String field = parser.nextFieldName(); field != null; field = parser.nextFieldName()) {
                switch (field) {
                    case "device" -> devices[row] = parser.nextTextValue();
                    case "time" -> times[row] = parser.nextLongValue(0);
                    case "readings" -> {
                        parser.nextToken();
                        for (int at = row * INPUTS; parser.nextToken() != JsonToken.END_ARRAY; at++) {
                            rows.put(at, parser.getFloatValue());
                        }
                    }
                    default -> {
                        parser.nextToken();
                        parser.skipChildren();
                    }
                }
            }
        }
    }

    private byte[] encode(int row, float score) throws IOException {
        bytes.reset();
        try (JsonGenerator out = json.createGenerator(bytes)) {
            out.writeStartObject();
            out.writeStringField("device", devices[row]);
            out.writeNumberField("time", times[row]);
            out.writeNumberField("score", score);
            out.writeBooleanField("anomaly", score > THRESHOLD);
            out.writeEndObject();
        }
        return bytes.toByteArray();
    }
}
