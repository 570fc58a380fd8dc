/* Runs the edge's exported part by ONNX Runtime's C API, segment by segment: a sample leaves at the first exit
 * that is confident enough, and the tensor of every other one goes to the next part, behind any server of the
 * Open Inference Protocol (an agent, Triton, KServe). The same as edge_part.py.
 *
 *   edgelesspart export parts my.ron --out parts
 *   cc -O2 -o edge_part edge_part.c -lonnxruntime -lcurl -ljansson -lm
 *   ./edge_part parts/edge x.f32 127.0.0.1:7070 cloud
 *
 * onnxruntime_c_api.h and libonnxruntime.so come in the archives of ONNX Runtime's releases; libcurl and jansson
 * are Debian's libcurl4-openssl-dev and libjansson-dev. x.f32 holds the part's input as 32-bit floats, one sample
 * behind the other. A line of JSON per sample: where it was answered, the exit there, counted from 0 (null: the
 * final classifier), its class, and the last confidence at the edge, by the measure MaxProbability.
 */
#include <curl/curl.h>
#include <jansson.h>
#include <math.h>
#include <onnxruntime_c_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char *what, const char *why) {
    fprintf(stderr, "edge_part: %s: %s\n", what, why);
    exit(1);
}

static const OrtApi *ort;
static OrtMemoryInfo *memory;

static void check(OrtStatus *status) {
    if (status) fail("ONNX Runtime", ort->GetErrorMessage(status));
}

/* A piece of the part: a segment or a head, which takes one tensor and gives one. */
struct piece {
    OrtSession *session;
    const char *input, *output;
};

/* A tensor of one sample; `value` owns the numbers where ONNX Runtime gave them. */
struct tensor {
    OrtValue *value;
    float *x;
    size_t count, rank;
    int64_t shape[8];
};

static json_t *at(json_t *object, const char *key) {
    json_t *found = json_object_get(object, key);
    if (!found) fail("manifest.json lacks", key);
    return found;
}

static const char *text(json_t *object, const char *key) { return json_string_value(at(object, key)); }

static struct piece load(OrtEnv *env, const OrtSessionOptions *options, const char *folder, json_t *entry,
                         const char *output) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, text(entry, "file"));
    struct piece piece = {NULL, text(at(entry, "input"), "name"), text(at(entry, output), "name")};
    check(ort->CreateSession(env, path, options, &piece.session));
    return piece;
}

static struct tensor run(const struct piece *piece, const struct tensor *input) {
    struct tensor output = {0};
    OrtTensorTypeAndShapeInfo *info;
    const OrtValue *in = input->value;
    check(ort->Run(piece->session, NULL, &piece->input, &in, 1, &piece->output, 1, &output.value));
    check(ort->GetTensorMutableData(output.value, (void **)&output.x));
    check(ort->GetTensorTypeAndShape(output.value, &info));
    check(ort->GetTensorShapeElementCount(info, &output.count));
    check(ort->GetDimensionsCount(info, &output.rank));
    if (output.rank > 8) fail(piece->output, "it has more than 8 extents");
    check(ort->GetDimensions(info, output.shape, output.rank));
    ort->ReleaseTensorTypeAndShapeInfo(info);
    return output;
}

/* The class of the largest score, and the probability that softmax(scores / temperature) gives it. */
static size_t decide(const float *scores, size_t classes, double temperature, double *confidence) {
    size_t best = 0;
    double sum = 0;
    for (size_t i = 1; i < classes; i++) best = scores[i] > scores[best] ? i : best;
    for (size_t i = 0; i < classes; i++) sum += exp(((double)scores[i] - scores[best]) / temperature);
    *confidence = 1 / sum;
    return best;
}

/* What a server answers with, piece by piece. */
struct body {
    char *text;
    size_t length;
};

static size_t append(char *data, size_t size, size_t n, void *user) {
    struct body *body = user;
    body->text = realloc(body->text, body->length + size * n + 1);
    if (!body->text) fail("the answer", "out of memory");
    memcpy(body->text + body->length, data, size * n);
    body->length += size * n;
    body->text[body->length] = 0;
    return size * n;
}

static json_t *exchange(CURL *curl, const char *url, const char *request) {
    struct body body = {0};
    json_error_t wrong;
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, append);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body);
    if (request) {
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request);
    }
    CURLcode done = curl_easy_perform(curl);
    if (done != CURLE_OK) fail(url, curl_easy_strerror(done));
    json_t *answer = json_loadb(body.text ? body.text : "", body.length, 0, &wrong);
    if (!answer) fail(url, wrong.text);
    if (json_object_get(answer, "error")) fail(url, body.text);
    free(body.text);
    curl_slist_free_all(headers);
    return answer;
}

/* The class of one sample by the next part, and the exit there; -1 where the server doesn't tell. */
static size_t offload(CURL *curl, const char *url, const char *input, const struct tensor *x, long *exit_there) {
    json_t *shape = json_array(), *data = json_array();
    for (size_t i = 0; i < x->rank; i++) json_array_append_new(shape, json_integer(x->shape[i]));
    for (size_t i = 0; i < x->count; i++) json_array_append_new(data, json_real(x->x[i]));
    json_t *question = json_pack("{s:s,s:[{s:s,s:s,s:o,s:o}]}", "id", "1", "inputs", "name", input, "datatype",
                                 "FP32", "shape", shape, "data", data);
    char *request = json_dumps(question, JSON_COMPACT);
    json_t *answer = exchange(curl, url, request), *output;
    size_t index, best = 0;
    *exit_there = -1;
    json_array_foreach(at(answer, "outputs"), index, output) {
        json_t *values = at(output, "data");
        if (!strcmp(text(output, "name"), "exit")) *exit_there = json_integer_value(json_array_get(values, 0));
        if (index) continue;
        for (size_t i = 1; i < json_array_size(values); i++)
            if (json_number_value(json_array_get(values, i)) > json_number_value(json_array_get(values, best))) best = i;
    }
    free(request);
    json_decref(question);
    json_decref(answer);
    return best;
}

int main(int count, char **args) {
    if (count != 3 && count != 5) fail("usage", "edge_part PART SAMPLES [HOST:PORT MODEL]");
    char path[4096], url[4096], infer[4200];
    json_error_t wrong;
    snprintf(path, sizeof path, "%s/manifest.json", args[1]);
    json_t *manifest = json_load_file(path, 0, &wrong);
    if (!manifest) fail(path, wrong.text);
    if (strcmp(text(manifest, "confidence"), "MaxProbability"))
        fail(text(manifest, "confidence"), "this program measures confidence by MaxProbability alone");
    int sends = !strcmp(text(at(manifest, "output"), "kind"), "tensor");

    ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (!ort) fail("libonnxruntime.so", "it is older than the header that this was built with");
    OrtEnv *env;
    OrtSessionOptions *options;
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "edge_part", &env));
    check(ort->CreateSessionOptions(&options));
    check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    json_t *entries = at(manifest, "segments"), *extents = at(at(manifest, "input"), "shape");
    size_t pieces = json_array_size(entries);
    struct piece *segments = calloc(pieces, sizeof *segments), *heads = calloc(pieces, sizeof *heads);
    if (!segments || !heads) fail("the segments", "out of memory");
    for (size_t i = 0; i < pieces; i++) {
        json_t *entry = json_array_get(entries, i), *head = at(entry, "exit");
        segments[i] = load(env, options, args[1], entry, "output");
        if (json_is_object(head)) heads[i] = load(env, options, args[1], head, "logits");
    }

    struct tensor sample = {.count = 1, .rank = json_array_size(extents), .shape = {1}};
    if (sample.rank > 8) fail("the part's input", "it has more than 8 extents");
    for (size_t i = 1; i < sample.rank; i++) {
        sample.shape[i] = json_integer_value(json_array_get(extents, i));
        sample.count *= sample.shape[i];
    }
    sample.x = malloc(sample.count * sizeof *sample.x);
    FILE *file = fopen(args[2], "rb");
    if (!sample.x || !file) fail(args[2], "can't be read");
    check(ort->CreateTensorWithDataAsOrtValue(memory, sample.x, sample.count * sizeof *sample.x, sample.shape,
                                              sample.rank, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &sample.value));
    CURL *curl = NULL;
    const char *input = NULL;
    if (count == 5) {
        curl = curl_easy_init();
        snprintf(url, sizeof url, "http://%s/v2/models/%s", args[3], args[4]);
        snprintf(infer, sizeof infer, "%s/infer", url);
        json_t *metadata = exchange(curl, url, NULL);
        input = text(json_array_get(at(metadata, "inputs"), 0), "name");
    }

    for (long number = 0; fread(sample.x, sizeof *sample.x, sample.count, file) == sample.count; number++) {
        struct tensor x = sample;
        const char *where = "edge";
        long exits = 0, taken = -1;
        size_t class = 0;
        double confidence = NAN;
        int left = 0;
        for (size_t i = 0; i < pieces && !left; i++) {
            struct tensor next = run(&segments[i], &x);
            if (i) ort->ReleaseValue(x.value);
            x = next;
            if (!heads[i].session) continue;
            json_t *head = at(json_array_get(entries, i), "exit");
            struct tensor logits = run(&heads[i], &x);
            class = decide(logits.x, logits.count, json_number_value(at(head, "temperature")), &confidence);
            ort->ReleaseValue(logits.value);
            left = confidence > json_number_value(at(head, "threshold"));
            taken = left ? exits : -1;
            exits++;
        }
        if (!left && !sends) {
            double ignored;
            class = decide(x.x, x.count, 1, &ignored);
            taken = exits;
        } else if (!left && curl) {
            where = "cloud";
            class = offload(curl, infer, input, &x, &taken);
        } else if (!left) {
            where = "nowhere: no server";
        }
        ort->ReleaseValue(x.value);
        json_t *row = json_pack("{s:i,s:s,s:o,s:i,s:o}", "sample", (int)number, "where", where, "exit",
                                taken < 0 ? json_null() : json_integer(taken), "class", (int)class, "confidence",
                                isnan(confidence) ? json_null() : json_real(confidence));
        char *line = json_dumps(row, JSON_COMPACT);
        puts(line);
        free(line);
        json_decref(row);
    }
    fclose(file);
    if (curl) curl_easy_cleanup(curl);
    return 0;
}
